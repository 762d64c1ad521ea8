"""Lives at random on PostgreSQL. Each engine has a file of its own: the two run side by side."""

import pytest

from tests.worker.random_lives.state_machine import live


def test_no_life_breaks_its_word(postgresql_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live(postgresql_store, monkeypatch)
