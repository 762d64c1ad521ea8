"""Lives at random on SQLite. Each engine has a file of its own: the two run side by side."""

import pytest

from tests.worker.random_lives.state_machine import live


def test_no_life_breaks_its_word(sqlite_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live(sqlite_store, monkeypatch)
