"""One module per database engine, with everything that differs between them, and the choice of one."""

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroomd.storage.drivers.base import Driver, Engines
from postroomd.storage.drivers.postgresql import PostgresqlDriver
from postroomd.storage.drivers.sqlite import SqliteDriver

DRIVERS: tuple[Driver, ...] = (SqliteDriver(), PostgresqlDriver())

_BY_NAME = {driver.name: driver for driver in DRIVERS}


def driver_for(url: str | URL) -> Driver:
    """Return the driver of a database URL."""
    return _BY_NAME[make_url(url).get_backend_name()]


def driver_of(connection: AsyncConnection | Connection) -> Driver:
    """Return the driver of a connection."""
    return _BY_NAME[connection.dialect.name]


def open_engines(
    url: str,
    *,
    owner: bool,
    pool_size: int,
    worker: bool = False,
    isolation: str | None = None,
    statement_timeout_seconds: float = 0,
) -> Engines:
    """Return the connection pools of the database at `url`, without connecting yet."""
    parsed = make_url(url)
    return driver_for(parsed).open_engines(
        parsed,
        owner=owner,
        worker=worker,
        pool_size=pool_size,
        isolation=isolation,
        statement_timeout_seconds=statement_timeout_seconds,
    )


def migration_engine(url: str) -> AsyncEngine:
    """Return an engine with one connection, to change the schema in one transaction."""
    return open_engines(url, owner=False, pool_size=1).writer
