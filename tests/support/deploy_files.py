"""The files of deploy/ and the programs that read them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def program(name: str, package: str) -> str:
    """Return the path of a program. Fails the test if it is missing: it is never skipped."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or shutil.which(name)
    if found is None:
        pytest.fail(f"no {name}: run `apt-get install {package}`")
    return found


def replaced(text: str, replacements: Mapping[str, str]) -> str:
    """Return a text with replacements, each of which has to occur in it."""
    for old, new in replacements.items():
        assert old in text, f"the text does not contain {old}"
        text = text.replace(old, new)
    return text


def configured(name: str, replacements: Mapping[str, str], directory: Path) -> Path:
    """Copy a file of deploy/ into a directory, with the values of a test in place of its examples."""
    path = directory / Path(name).name
    path.write_text(replaced((DEPLOY / name).read_text(), replacements))
    return path
