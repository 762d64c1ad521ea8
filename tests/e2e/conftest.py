"""Fixtures: Postroom as a whole, started by its command line as real processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Up, end, launch, start

Starter = Callable[..., Up]


@pytest.fixture(scope="session")
def postroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running Postroom that tests share: they leave it running, and its key valid."""
    up = start(tmp_path_factory.mktemp("postroom"))
    yield up
    end(up)


@pytest.fixture
def start_postroom(tmp_path: Path) -> Iterator[Starter]:
    """A function that starts a Postroom of the test's own, with flags, on the test's database, and waits for it."""
    started: list[Up] = []

    def starter(*flags: str, wait: bool = True, **environment: str) -> Up:
        up = (start if wait else launch)(tmp_path, *flags, **environment)
        started.append(up)
        return up

    yield starter
    for up in started:
        end(up)
