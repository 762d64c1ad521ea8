"""The SDKs against a Postroom on PostgreSQL."""

import pytest

from tests.e2e.sdk.conftest import MakeDatabase
from tests.e2e.sdk.contract import SdkContract
from tests.e2e.sdk.instances import PostgresDatabase
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def make_database(postgres: PostgresServer) -> MakeDatabase:
    """Makes a database of the session's server."""
    return lambda _directory: PostgresDatabase(postgres)


class TestPostgresql(SdkContract):
    """Both SDKs on PostgreSQL."""
