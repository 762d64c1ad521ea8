"""The SDKs against a Postroom on SQLite."""

import pytest

from .conftest import MakeDatabase
from .contract import SdkContract
from .instances import SqliteDatabase


@pytest.fixture(scope="module")
def make_database() -> MakeDatabase:
    """Makes an SQLite file in a directory."""
    return SqliteDatabase


class TestSqlite(SdkContract):
    """Both SDKs on SQLite."""
