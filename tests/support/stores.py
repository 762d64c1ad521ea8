"""Fixtures: an empty database per test on each engine, and repositories on it."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Pool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.schema import metadata
from tests.support.databases import ENGINES, MIGRATED
from tests.support.factories import Tenant, new_tenant
from tests.support.waiting import wait_until
from tools.postgres import PostgresServer


@dataclass
class Store:
    """A database and the repositories opened on it. Each `open` acts like a separate process."""

    url: str
    _opened: list[Repository] = field(default_factory=list)

    async def open(self) -> Repository:
        repository = await open_repository(self.url)
        self._opened.append(repository)
        return repository

    async def close(self) -> None:
        for repository in self._opened:
            await repository.close()


@pytest.fixture
def sqlite_store(sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, tmp_path / 'postroom.db')}"


@pytest.fixture(scope="session")
def postgresql_database(postgres: PostgresServer) -> str:
    """The name of a migrated PostgreSQL database that the tests of a process use in turn."""
    postgres.sql(f"CREATE DATABASE contract TEMPLATE {MIGRATED}")
    return "contract"


@pytest.fixture
def postgresql_store(postgres: PostgresServer, postgresql_database: str) -> str:
    # Emptying the tables takes a hundredth of the time of creating a database.
    tables = [table.name for table in reversed(metadata.sorted_tables)]
    postgres.sql("; ".join(f"DELETE FROM {table}" for table in tables), postgresql_database)
    return postgres.url(postgresql_database)


@pytest.fixture(params=ENGINES)
def clean_store(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated, empty database; runs the test on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_store")
    return url


@pytest.fixture
def connections() -> Iterator[Callable[[], int]]:
    """Returns the number of connections that are checked out of all pools."""
    checked_out: set[int] = set()

    def checkout(_connection: object, record: object, _proxy: object) -> None:
        checked_out.add(id(record))

    def checkin(_connection: object, record: object) -> None:
        checked_out.discard(id(record))

    listeners: dict[str, Callable[..., None]] = {"checkout": checkout, "checkin": checkin, "detach": checkin}
    for name, listener in listeners.items():
        event.listen(Pool, name, listener)
    yield lambda: len(checked_out)
    for name, listener in listeners.items():
        event.remove(Pool, name, listener)


@pytest.fixture
async def store(clean_store: str, connections: Callable[[], int]) -> AsyncIterator[Store]:
    """An empty database. Checks at the end of the test that every connection has been returned to its pool."""
    async with AsyncExitStack() as cleanups:
        opened = Store(clean_store)
        cleanups.push_async_callback(opened.close)
        yield opened
        await wait_until(lambda: connections() == 0)


@pytest.fixture
async def repository(store: Store) -> Repository:
    return await store.open()


@pytest.fixture
async def raw(store: Store) -> AsyncIterator[AsyncEngine]:
    """A direct connection to the same database, to check what the repository has stored."""
    engine = create_async_engine(store.url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def tenant(repository: Repository) -> Tenant:
    return await new_tenant(repository)


@pytest.fixture
async def other(repository: Repository) -> Tenant:
    """A tenant of another organization."""
    return await new_tenant(repository)
