"""What differs between the engines, and nothing else: how each is opened, and entered for a tenant.

SQLite runs in WAL mode with one writer connection a process and a few readers. SQLite before 3.51.3 can lose committed
writes when two connections checkpoint the write-ahead log at the same time, so only the writer of the process that
owns the file, the service, does so; in every other connection `wal_autocheckpoint` is off.

PostgreSQL, and engines that speak its protocol, are asked for nothing that outlives a transaction, but for hot
statements: those have connections of their own, with statements that stay prepared, and the tenants' role for good.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Dialect,
    FromClause,
    NullPool,
    Select,
    SelectBase,
    Table,
    Text,
    UnaryExpression,
    bindparam,
    cast,
    event,
    func,
    literal_column,
    make_url,
    select,
    text,
    true,
)
from sqlalchemy import column as lightcolumn
from sqlalchemy import table as lightweight
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.operators import custom_op

from postroomd.domain.tenancy import Scope
from postroomd.storage.compiled import CompiledReader, Way
from postroomd.storage.drivers.pools import Line, Lines, PostgresqlLine, QueuingLines, TurnTakingLines
from postroomd.storage.drivers.sqlite_thread import SqliteThread
from postroomd.storage.schema import ID, LIST_INDEXES, OCTETS

BUSY_TIMEOUT_MS = 5_000
SQLITE_READERS = 4
# What a reader keeps for itself, the system keeps for all of them: 512 KiB hold the inner pages of the indexes.
READING = {"wal_autocheckpoint": 0, "cache_size": -512}
SQLITE_BULK_KIB = 128 * 1024  # of pages: more makes the deletion of a domain with 100,000 mailboxes hardly quicker
SQLITE_BY_KEY = (2, 32)  # lines, and how many statements wait for the first before the second is used
SQLITE_OTHERS = (3, 1)
POSTGRESQL_OWN = 1  # line for hot statements of ours, API keys; half of all connections are for those of tenants
CONNECT_SECONDS = 5.0
POOL_SECONDS = 10.0

TENANT_ROLE = "postroom_tenant"
"""The PostgreSQL role that tenants' statements run as: row-level security holds for it, since it owns nothing."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The connections to one database. On PostgreSQL reader and writer are one pool.

    `hot` is missing where a pooler may stand in between, which gives each statement any session it likes.
    """

    reader: AsyncEngine
    writer: AsyncEngine
    hot: CompiledReader | None

    async def close(self) -> None:
        """Close every connection, each once what runs on it has ended."""
        if self.hot:
            await self.hot.close()
        await self.reader.dispose()
        await self.writer.dispose()


def open_engines(url: str, *, owner: bool, pool_size: int, isolation: str | None = None) -> Engines:
    """The engines for a URL; nothing is connected yet. `owner` may checkpoint an SQLite file."""
    if is_sqlite(url):
        checkpoints = {} if owner else {"wal_autocheckpoint": 0}
        reader = _sqlite(url, SQLITE_READERS, begin="BEGIN", pragmas=READING)
        connect = partial(SqliteThread.open, partial(_hot_sqlite_connection, url))
        way = Way(QueuingLines(connect, *SQLITE_BY_KEY), QueuingLines(connect, *SQLITE_OTHERS))
        writer = _sqlite(url, 1, begin="BEGIN IMMEDIATE", pragmas=checkpoints)
        return Engines(reader, writer, CompiledReader(reader.dialect, way, way))
    options: dict[str, Any] = {"isolation_level": isolation} if isolation else {}
    if _behind_pooler(url):
        engine = _postgresql(url, **options, **_pool(pool_size))
        return Engines(engine, engine, None)
    tenants = max(pool_size // 2, 1)
    engine = _postgresql(url, **options, **_pool(max(pool_size - tenants - POSTGRESQL_OWN, 1)))
    return Engines(engine, engine, _postgresql_hot(url, engine.dialect, tenants))


def _pool(size: int) -> dict[str, Any]:
    return {"pool_size": size, "max_overflow": 0, "pool_timeout": POOL_SECONDS}


def migration_engine(url: str) -> AsyncEngine:
    """One connection to change the schema over, in one transaction."""
    return open_engines(url, owner=False, pool_size=1).writer


def is_sqlite(url: str) -> bool:
    """Whether the database is an SQLite file, which one machine has to itself."""
    return make_url(url).get_backend_name() == "sqlite"


async def enter_tenant(connection: AsyncConnection, scope: Scope) -> None:
    """Have PostgreSQL itself keep the transaction inside one organization. SQLite has no such thing."""
    if connection.dialect.name == "postgresql":
        entering = text(
            "SELECT set_config('role', :role, true), set_config('postroom.organization_id', :organization_id, true)"
        )
        await connection.execute(entering, {"role": TENANT_ROLE, "organization_id": scope.organization_id})


def tenants_statement(statement: Select[Any]) -> Select[Any]:
    """One statement that enters its organization, as `enter_tenant` does, and then runs another inside it.

    The condition ties the inner statement to the row that entering gives, and the offset keeps it from being merged
    into the outer one: so PostgreSQL enters first. The organization is forgotten with the statement.
    """
    organization_id = cast(bindparam("organization_id", type_=ID), Text)
    setting: ColumnElement[str] = literal_column("'postroom.organization_id'")
    entering = select(func.set_config(setting, organization_id, true()).label("organization_id"))
    entered = entering.cte("entered").prefix_with("MATERIALIZED")
    inside = statement.where(entered.c.organization_id.is_not(None))
    if inside._offset_clause is None:
        inside = inside.offset(literal_column("0"))
    found = inside.lateral("found")
    return select(*found.c).select_from(entered.join(found, true()))


@dataclass(frozen=True, slots=True)
class Found:
    """What the index of substrings finds. Its parameters: `pattern`, for LIKE, and `phrase`, for FTS5."""

    ids: CTE
    """What it is known by, on SQLite whoever's it is. Both engines look once, since `rows` and `count` both use it."""
    rows: FromClause
    """The rows."""

    @property
    def count(self) -> ColumnElement[int]:
        """How many they are."""
        return select(func.count()).select_from(self.ids).scalar_subquery()


def found_by_index(dialect: str, table: Table, column: str, most: int) -> Found:
    """What the index of a column that is searched (migration 0004) finds, up to so many rows."""
    name = f"search_{table.name}"
    if dialect == "sqlite":
        search = lightweight(name, lightcolumn(name), lightcolumn("rowid"))
        numbers = lightweight(f"{name}_numbers", lightcolumn("number"), lightcolumn("id", ID))
        found = select(search.c.rowid).where(search.c[name].op("MATCH")(bindparam("phrase", type_=Text)))
        ids = found.limit(most).cte("found")
        return Found(ids, rows_by_id(dialect, table, select(numbers.c.id).where(numbers.c.number.in_(select(ids)))))
    filters, orders = next((filters, orders) for listed, filters, orders in LIST_INDEXES if listed is table)
    columns = [table.c[each] for each in ("id", *filters, *orders, "status")]
    view = lightweight(name, *(lightcolumn(each.name, each.type) for each in columns))
    pattern = bindparam("pattern", type_=OCTETS)
    own = view.c.organization_id == bindparam("organization_id", type_=ID)
    rows = select(view).where(own, view.c[column].like(pattern, escape="\\")).limit(most).cte("found")
    return Found(rows, rows)


def rows_by_id(dialect: str, table: Table, ids: SelectBase) -> FromClause:
    """The rows of a table with these ids, looked up by their ids, whatever more is asked of them."""
    columns = [each if each is table.c.id else checked(dialect, each).label(each.name) for each in table.c]
    return select(*columns).where(table.c.id.in_(ids)).subquery("by_id")


def checked(dialect: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column whose value is to be checked where the rows are known, rather than looked for.

    SQLite keeps no statistics: left to itself it takes an organization's index for better than a few ids. An
    expression is in no index (https://sqlite.org/optoverview.html#uplus).
    """
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type) if dialect == "sqlite" else column


@asynccontextmanager
async def in_memory(connection: AsyncConnection) -> AsyncIterator[None]:
    """Keep what very many changes touch in memory, as far as there is room.

    SQLite's page cache is small. Once it is full of changed pages, each further one has another written to the log,
    to be read from there for the next row that belongs on it: half of the time of changing 100,000 mailboxes.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = (await connection.exec_driver_sql("PRAGMA cache_size")).scalar_one()
    await connection.exec_driver_sql(f"PRAGMA cache_size = -{SQLITE_BULK_KIB}")
    try:
        yield
    finally:
        await connection.exec_driver_sql(f"PRAGMA cache_size = {usual}")


async def checkpoint(engine: AsyncEngine) -> None:
    """Move what the write-ahead log holds into the SQLite file, as far as readers permit."""
    async with engine.connect() as connection:
        # On the driver's connection: SQLAlchemy would begin a transaction, inside which no checkpoint can be made.
        pooled = await connection.get_raw_connection()
        await connection.run_sync(lambda _: pooled.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)"))


async def _own_line(engine: AsyncEngine) -> Line:
    """A new connection, as SQLAlchemy opens it, for us alone."""
    pooled = await engine.raw_connection()
    opened = PostgresqlLine(pooled.driver_connection)
    pooled.detach()
    return opened


def _postgresql_hot(url: str, dialect: Dialect, tenants: int) -> CompiledReader:
    """Hot statements on PostgreSQL. A tenant's run on connections that are the tenants' role from their beginning."""

    def lines(count: int, **settings: str) -> Lines:
        engine = _postgresql(url, settings, poolclass=NullPool)
        return TurnTakingLines(partial(_own_line, engine), count, POOL_SECONDS)

    own, inside = lines(POSTGRESQL_OWN), lines(tenants, role=TENANT_ROLE)
    return CompiledReader(dialect, Way(own, own), Way(inside, inside, tenants_statement))


def _behind_pooler(url: str) -> bool:
    """Whether the operator has switched prepared statements off, as for a transaction-level pooler."""
    return make_url(url).query.get("prepared_statement_cache_size") == "0"


def _postgresql(url: str, server_settings: dict[str, str] | None = None, **options: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        hide_parameters=True,  # a statement's parameters are customers' data
        connect_args={"timeout": CONNECT_SECONDS, "server_settings": server_settings or {}},
        **options,
    )


def _sqlite(url: str, pool_size: int, *, begin: str, pragmas: dict[str, int]) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True, **_pool(pool_size))

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        _set_up_sqlite(connection, pragmas)

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _hot_sqlite_connection(url: str) -> sqlite3.Connection:
    connection = sqlite3.connect(make_url(url).database or "")
    _set_up_sqlite(connection, {**READING, "query_only": 1})
    return connection


def _set_up_sqlite(connection: Any, pragmas: dict[str, int]) -> None:
    connection.isolation_level = None  # the driver is not to begin transactions by itself
    settings = {
        "busy_timeout": BUSY_TIMEOUT_MS,
        "journal_mode": "WAL",
        "synchronous": "FULL",
        "foreign_keys": "ON",
        **pragmas,
    }
    cursor = connection.cursor()
    for name, value in settings.items():
        cursor.execute(f"PRAGMA {name} = {value}")
    cursor.close()
