"""A clean store for each test, on every engine that Postroom runs on."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Pool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.schema import metadata
from tests.conftest import MIGRATED
from tests.support.factories import Tenant, new_tenant
from tests.support.postgres import PostgresServer
from tests.support.stored import eventually


@dataclass
class Store:
    """One database, and whoever has it open. Each `open` is what another process's would be."""

    url: str
    _opened: list[Repository] = field(default_factory=list)

    async def open(self) -> Repository:
        repository = await open_repository(self.url)
        self._opened.append(repository)
        return repository

    async def close(self) -> None:
        for repository in self._opened:
            await repository.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture
def sqlite_store(sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, tmp_path / 'postroom.db')}"


@pytest.fixture(scope="session")
def postgresql_database(postgres: PostgresServer) -> str:
    """The name of a migrated PostgreSQL database that tests have to themselves one by one."""
    postgres.sql(f"CREATE DATABASE contract TEMPLATE {MIGRATED}")
    return "contract"


@pytest.fixture
def postgresql_store(postgres: PostgresServer, postgresql_database: str) -> str:
    # Emptying the tables takes a hundredth of what a new database costs.
    tables = [table.name for table in reversed(metadata.sorted_tables)]
    postgres.sql("; ".join(f"DELETE FROM {table}" for table in tables), postgresql_database)
    return postgres.url(postgresql_database)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))])
def clean_store(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database with nothing in it, on each engine in turn."""
    url: str = request.getfixturevalue(f"{request.param}_store")
    return url


@pytest.fixture
def connections() -> Iterator[Callable[[], int]]:
    """How many connections are taken from a pool and not given back, of all pools there are."""
    taken: set[int] = set()

    def checkout(_connection: object, record: object, _proxy: object) -> None:
        taken.add(id(record))

    def checkin(_connection: object, record: object) -> None:
        taken.discard(id(record))

    event.listen(Pool, "checkout", checkout)
    event.listen(Pool, "checkin", checkin)
    event.listen(Pool, "detach", checkin)  # it belongs to no pool any more
    yield lambda: len(taken)
    event.remove(Pool, "checkout", checkout)
    event.remove(Pool, "checkin", checkin)
    event.remove(Pool, "detach", checkin)


@pytest.fixture
async def store(clean_store: str, connections: Callable[[], int]) -> AsyncIterator[Store]:
    """A clean database. Whatever a test does to it, every connection is given back at the end."""
    async with AsyncExitStack() as cleanups:
        opened = Store(clean_store)
        cleanups.push_async_callback(opened.close)
        yield opened
        await eventually(lambda: connections() == 0)


@pytest.fixture
async def repository(store: Store) -> Repository:
    return await store.open()


@pytest.fixture
async def raw(store: Store) -> AsyncIterator[AsyncEngine]:
    """The same database beside the repository, to count again what it counted."""
    engine = create_async_engine(store.url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def tenant(repository: Repository) -> Tenant:
    return await new_tenant(repository)


@pytest.fixture
async def other(repository: Repository) -> Tenant:
    """Another organization."""
    return await new_tenant(repository)
