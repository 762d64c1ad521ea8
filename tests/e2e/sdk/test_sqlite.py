"""The SDKs against Postroom on SQLite."""

from pathlib import Path

import pytest

from tests.e2e.sdk.conftest import CreateDatabase
from tests.e2e.sdk.contract import SdkContract
from tests.e2e.sdk.instances import Database, SqliteDatabase
from tests.e2e.support import place_database


@pytest.fixture(scope="module")
def create_database(sqlite_template: Path) -> CreateDatabase:
    def create(directory: Path) -> Database:
        place_database(sqlite_template, directory)
        return SqliteDatabase(directory)

    return create


class TestSqlite(SdkContract):
    """Both SDKs on SQLite."""
