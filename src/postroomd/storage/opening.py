"""From a URL to an open repository."""

import sqlite3
from dataclasses import dataclass

from sqlalchemy import make_url

from postroomd.observability.logs import get_logger
from postroomd.storage.database import Database
from postroomd.storage.drivers.engines import is_sqlite, open_engines
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.replica import Replica

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaUrl:
    """Where a read replica is, and how far behind it may be."""

    url: str
    max_staleness_seconds: float

    def __repr__(self) -> str:
        return "ReplicaUrl(…)"  # a URL may hold a password


async def open_repository(
    url: str,
    *,
    owner: bool = False,
    pool_size: int = 10,
    isolation: str | None = None,
    replica: ReplicaUrl | None = None,
) -> Repository:
    """The repository over the database at `url`: sqlite+aiosqlite:///PATH or postgresql+asyncpg://….

    `owner` is the one process that may checkpoint an SQLite file. `isolation` is PostgreSQL's level where it is not to
    be the server's default. Raises StorageUnavailable.
    """
    from postroomd.storage.sql import SqlRepository

    database = open_database(url, owner=owner, pool_size=pool_size, isolation=isolation, replica=replica)
    repository = SqlRepository(database)
    try:
        await repository.ping()
    except BaseException:
        await repository.close()
        raise
    return repository


def open_database(
    url: str,
    *,
    owner: bool = False,
    pool_size: int = 10,
    isolation: str | None = None,
    replica: ReplicaUrl | None = None,
) -> Database:
    """The database at `url`; nothing is connected until it is used. Needs a running event loop."""
    log.info("database", engine=make_url(url).get_backend_name(), sqlite_version=sqlite3.sqlite_version)
    engines = open_engines(url, owner=owner, pool_size=pool_size, isolation=isolation)
    if replica is None:
        return Database(engines, keeps_log_short=owner and is_sqlite(url))
    reading = Replica(
        open_engines(replica.url, owner=False, pool_size=pool_size), engines.reader, replica.max_staleness_seconds
    )
    return Database(engines, keeps_log_short=False, replica=reading)
