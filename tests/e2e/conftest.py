"""Fixtures: Postroom as real processes, started by the command line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Up, launch, place_database, start, terminate

Starter = Callable[..., Up]


@pytest.fixture(scope="session")
def postroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running Postroom that tests share; they must not stop it or revoke its key."""
    up = start(tmp_path_factory.mktemp("postroom"))
    yield up
    terminate(up)


@pytest.fixture
def start_postroom(sqlite_template: Path, tmp_path: Path) -> Iterator[Starter]:
    """A function that starts a Postroom for one test, with flags, and waits until it is ready.

    Unless `wait` is false, its database has been migrated: the start from nothing is that of `postroom`.
    """
    started: list[Up] = []

    def starter(*flags: str, wait: bool = True, **environment: str) -> Up:
        if wait and not (tmp_path / "data").exists():
            place_database(sqlite_template, tmp_path)
        up = (start if wait else launch)(tmp_path, *flags, **environment)
        started.append(up)
        return up

    yield starter
    for up in started:
        terminate(up)
