"""The SDKs against a Postroom on SQLite."""

import pytest

from tests.e2e.sdk.conftest import MakeDatabase
from tests.e2e.sdk.contract import SdkContract
from tests.e2e.sdk.instances import SqliteDatabase


@pytest.fixture(scope="module")
def make_database() -> MakeDatabase:
    """Makes an SQLite file in a directory."""
    return SqliteDatabase


class TestSqlite(SdkContract):
    """Both SDKs on SQLite."""
