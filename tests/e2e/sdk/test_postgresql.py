"""The SDKs against Postroom on PostgreSQL."""

import pytest

from tests.e2e.sdk.conftest import CreateDatabase
from tests.e2e.sdk.contract import SdkContract
from tests.e2e.sdk.instances import PostgresDatabase
from tools.postgres import PostgresServer


@pytest.fixture(scope="module")
def create_database(postgres: PostgresServer) -> CreateDatabase:
    return lambda _directory: PostgresDatabase(postgres)


class TestPostgresql(SdkContract):
    """Both SDKs on PostgreSQL."""
