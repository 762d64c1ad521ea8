"""Fixtures: files of deploy/ with the addresses of a test in place of their examples."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def program(name: str, package: str) -> str:
    """Return the path of a program. Fails the test if it is missing: it is never skipped."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or shutil.which(name)
    if found is None:
        pytest.fail(f"no {name}: run `apt-get install {package}`")
    return found


@pytest.fixture
def configure(tmp_path: Path) -> Callable[[str, Mapping[str, str]], Path]:
    """A function that copies a file of deploy/ with replacements, each of which has to occur in it."""

    def copy(name: str, replacements: Mapping[str, str]) -> Path:
        text = (DEPLOY / name).read_text()
        for old, new in replacements.items():
            assert old in text, f"{name} does not contain {old}"
            text = text.replace(old, new)
        path = tmp_path / Path(name).name
        path.write_text(text)
        return path

    return copy
