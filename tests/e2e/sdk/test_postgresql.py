"""The SDKs against a Postroom on PostgreSQL."""

import pytest

from tests.postgres import PostgresServer

from .conftest import MakeDatabase
from .contract import SdkContract
from .instances import PostgresDatabase


@pytest.fixture(scope="module")
def make_database(postgres: PostgresServer) -> MakeDatabase:
    """Makes a database of the session's server."""
    return lambda _directory: PostgresDatabase(postgres)


class TestPostgresql(SdkContract):
    """Both SDKs on PostgreSQL."""
