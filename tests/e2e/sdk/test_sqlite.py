"""The SDKs against Postroom on SQLite."""

import pytest

from tests.e2e.sdk.conftest import CreateDatabase
from tests.e2e.sdk.contract import SdkContract
from tests.e2e.sdk.instances import SqliteDatabase


@pytest.fixture(scope="module")
def create_database() -> CreateDatabase:
    return SqliteDatabase


class TestSqlite(SdkContract):
    """Both SDKs on SQLite."""
