"""Fixtures: a PostgreSQL server, and new migrated databases on either engine."""

import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postroomd.storage.migrations import migrate
from tests.support.postgres import FAST, running_server
from tools.postgres import PostgresServer

MIGRATED = "postroom_migrated"
"""The PostgreSQL database that new ones are copied from."""

NewDatabase = Callable[[], str]
"""Creates a migrated, empty database. Returns its URL."""

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))]
"""Parameters of a fixture that uses both engines in turn."""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the session, with a migrated database to copy."""
    with running_server(settings=FAST) as server:
        server.sql(f"CREATE DATABASE {MIGRATED}")
        migrate(server.url(MIGRATED))
        yield server


@pytest.fixture
def new_postgres_database(postgres: PostgresServer) -> NewDatabase:
    def create() -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        postgres.sql(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
        return postgres.url(name)

    return create


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    path.chmod(0o600)  # as the commands create it
    return path


@pytest.fixture
def new_sqlite_database(sqlite_template: Path, tmp_path: Path) -> NewDatabase:
    def create() -> str:
        return f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, tmp_path / f'{next(_numbers)}.db')}"

    return create


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Runs the test on each engine."""
    engine = "sqlite" if request.param == "sqlite" else "postgres"
    create: NewDatabase = request.getfixturevalue(f"new_{engine}_database")
    return create


@pytest.fixture
def sqlite_empty(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/empty.db"


@pytest.fixture
def postgresql_empty(postgres: PostgresServer) -> Iterator[str]:
    name = f"empty_{secrets.token_hex(4)}"
    postgres.sql(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=ENGINES)
def empty(request: pytest.FixtureRequest) -> str:
    """The URL of a database without a schema, on each engine in turn."""
    url: str = request.getfixturevalue(f"{request.param}_empty")
    return url
