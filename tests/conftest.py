"""What several test packages share: a PostgreSQL server, and fresh databases on either engine."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postroomd.storage.migrations import migrate
from tests.support.postgres import FAST, PostgresServer, running_server

# Tests start programs from processes that gRPC runs in. What it does around a fork is not made for that, and crashed a
# child now and then before it was the program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

MIGRATED = "postroom_migrated"

pytest_plugins = ["tests.support.stores", "tests.support.internet"]

_numbers = itertools.count()

NewDatabase = Callable[[], str]


LONGEST = "random_lifecycles"  # a folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest by far, or a core is idle while it ends."""
    items.sort(key=lambda item: item.path.parent.name != LONGEST)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the session, with one database that is migrated and copied from."""
    with running_server(settings=FAST) as server:
        server.sql(f"CREATE DATABASE {MIGRATED}")
        migrate(server.url(MIGRATED))
        yield server


@pytest.fixture
def new_postgres_database(postgres: PostgresServer) -> NewDatabase:
    """Makes a migrated, empty PostgreSQL database and answers its URL."""

    def make() -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        postgres.sql(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
        return postgres.url(name)

    return make


@pytest.fixture
def new_sqlite_database(tmp_path: Path) -> NewDatabase:
    """Makes a migrated, empty SQLite database and answers its URL."""

    def make() -> str:
        url = f"sqlite+aiosqlite:///{tmp_path}/{next(_numbers)}.db"
        migrate(url)
        return url

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Makes a migrated, empty database on each engine in turn."""
    maker: NewDatabase = request.getfixturevalue(
        "new_sqlite_database" if request.param == "sqlite" else "new_postgres_database"
    )
    return maker
