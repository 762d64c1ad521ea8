"""Random lifecycles on PostgreSQL. Each engine has its own file, so that the two run in parallel."""

import pytest

from tests.worker.random_lifecycles.state_machine import run_lifecycles


def test_random_lifecycles_break_no_invariant(postgresql_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_lifecycles(postgresql_store, monkeypatch)
