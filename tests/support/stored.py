"""Moved: tests.support.database_state, tests.support.waiting."""

from typing import Any

from tests.support.database_state import check_invariants as check_invariants
from tests.support.database_state import check_lists as check_lists
from tests.support.database_state import count_of as count_of
from tests.support.database_state import dump as dump
from tests.support.database_state import password_hash as password_hash
from tests.support.database_state import rows_of as rows_of
from tests.support.waiting import wait_until

__all__ = ["check_invariants", "check_lists", "count_of", "dump", "eventually", "password_hash", "rows_of"]


async def eventually(holds: Any) -> None:
    await wait_until(holds)
