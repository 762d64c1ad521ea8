"""Fixtures: a root of Debian, and the image of the Containerfile over it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.image import Image, built_image, make_base


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """An archive of a root of Debian with Python and systemd."""
    with tempfile.TemporaryDirectory(prefix="postroom-base-") as directory:
        yield make_base(Path(directory))


@pytest.fixture(scope="session")
def image(base: Path) -> Iterator[Image]:
    """The image, as the documentation builds it."""
    with (
        tempfile.TemporaryDirectory(prefix="postroom-image-") as directory,
        built_image(base, Path(directory)) as built,
    ):
        yield built
