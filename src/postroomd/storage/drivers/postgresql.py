"""PostgreSQL over asyncpg, and engines that speak its protocol.

Transactions rely on nothing that outlives them. Compiled reads have connections of their own, on which statements stay
prepared and tenants' statements run as the tenants' role throughout.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex

from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.errors import StorageUnavailable
from postroomd.domain.tenancy import Scope
from postroomd.storage.compiled import CompiledReader, ReadPath
from postroomd.storage.drivers import postgresql_reader
from postroomd.storage.drivers.base import (
    POOL_TIMEOUT_SECONDS,
    Driver,
    Engines,
    Failure,
    Fault,
    Matches,
    search_parameter,
)
from postroomd.storage.drivers.postgresql_connection import Connector, explain_connection
from postroomd.storage.drivers.postgresql_isolation import (
    TENANT_ROLE,
    Searched,
    inspect_isolation,
    repair_isolation,
    require_role,
)
from postroomd.storage.drivers.postgresql_pool import Connection, ExclusivePool
from postroomd.storage.drivers.postgresql_url import describe, translate
from postroomd.storage.drivers.types import ID, OCTETS

CONNECT_TIMEOUT_SECONDS = 5.0
SYSTEM_CONNECTIONS = 1  # for compiled reads without a tenant: API keys. Half of all connections serve tenants' reads.


class PostgresqlDriver(Driver):
    """PostgreSQL over SQLAlchemy's asyncpg dialect, and over asyncpg alone for compiled reads."""

    name = "postgresql"
    snapshot_options: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def open_engines(
        self,
        url: sa.URL,
        *,
        owner: bool,
        worker: bool,
        pool_size: int,
        isolation: str | None,
        statement_timeout_seconds: float,
    ) -> Engines:
        """Return the connection pools of a database, of `pool_size` connections together.

        `owner` and `worker` have no effect. Nor has the timeout behind a pooler, which refuses such settings: there it
        is the role's, or the pooler's.
        """
        options: dict[str, Any] = {"isolation_level": isolation} if isolation else {}
        if _is_behind_pooler(url):
            engine = _engine(url, {}, **options, **_pool(pool_size))
            return Engines(self, engine, engine, None)
        milliseconds = str(round(1_000 * statement_timeout_seconds))
        settings = {"statement_timeout": milliseconds} if statement_timeout_seconds else {}
        tenants = max(pool_size // 2, 1)
        engine = _engine(url, settings, **options, **_pool(max(pool_size - tenants - SYSTEM_CONNECTIONS, 1)))
        return Engines(self, engine, engine, _compiled_reader(url, settings, engine.dialect, tenants))

    def describe(self, url: sa.URL, *, with_user: bool = False) -> str:
        """Return the engine, host, port and name, and the user on request."""
        return describe(url, with_user=with_user)

    def file(self, url: sa.URL) -> Path | None:
        """Return None: a server holds the database."""

    def versions(self) -> Mapping[str, str]:
        """Return nothing: the server's version is known once connected."""
        return {}

    async def enter_tenant(self, connection: AsyncConnection, scope: Scope) -> None:
        """Run the rest of the transaction as the tenants' role, which sees the rows of one organization."""
        entering = sa.text(
            "SELECT set_config('role', :role, true), set_config('postroom.organization_id', :organization_id, true)"
        )
        await connection.execute(entering, {"role": TENANT_ROLE, "organization_id": scope.organization_id})

    async def build_indexes(self, engine: AsyncEngine, indexes: Sequence[sa.Index]) -> None:
        """Build those of the indexes that are missing, without locking out writers, one by one."""
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            for index in indexes:
                valid = await connection.scalar(_IS_VALID, {"name": index.name})
                if valid is False:  # an earlier build was interrupted
                    await connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {index.name}")
                if not valid:
                    # Not an option of the index itself, which tests create in a transaction.
                    statement = str(CreateIndex(index).compile(dialect=connection.dialect))
                    await connection.exec_driver_sql(
                        statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY IF NOT EXISTS", 1)
                    )

    async def server_time(self, connection: AsyncConnection) -> datetime | None:
        """Return the current time of the server."""
        time: datetime = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        return time

    def prepare(self, connection: sa.Connection) -> None:
        """Create the tenants' role, to which migrations grant access."""
        require_role(connection)

    def repair(self, connection: sa.Connection, tables: Sequence[str], searched: Searched) -> None:
        """Create what is missing of role, grants, policies, and of what searches need."""
        repair_isolation(connection, tables, searched)

    async def read_only_fault(self, connection: AsyncConnection) -> str | None:
        """Return the fault if transactions are read-only: on a standby, or by a setting of database or user."""
        if (await connection.exec_driver_sql(_SHOW_READ_ONLY)).scalar_one() != "on":
            return None
        return f"it is read-only, as a standby is: connect to the primary, or {_MAKE_WRITABLE}"

    def diagnose(self, connection: sa.Connection) -> Sequence[Finding]:
        """Return the version of the server, and whether it accepts writes."""
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        if connection.exec_driver_sql(_SHOW_READ_ONLY).scalar_one() == "on":
            detail = f"PostgreSQL {version} is read-only, as a standby is"
            remedy = f"let --database-url name the primary, or {_MAKE_WRITABLE}"
            return [Finding(check="server", condition=Condition.ERROR, detail=detail, remedy=remedy)]
        return [Finding(check="server", condition=Condition.OK, detail=f"PostgreSQL {version}")]

    def faults(self, connection: sa.Connection, tables: Sequence[str], searched: Searched) -> Sequence[str]:
        """Return what is missing of role, grants, policies, and of what searches need."""
        return [*inspect_isolation(connection, tables, searched).faults()]

    def hidden_tables(self, connection: sa.Connection, tables: Sequence[str]) -> Sequence[str]:
        """Return the tables to which row-level security applies for the database user itself."""
        return inspect_isolation(connection, tables, ()).hidden()

    def create_reader(self, connection: sa.Connection, name: str, password: str, views: Sequence[str]) -> None:
        """Create the role, or set its password. Raises RoleRefused for one that may do more."""
        postgresql_reader.create_reader(connection, name, password, views)

    def diagnose_readers(self, connection: sa.Connection, views: Sequence[str]) -> Sequence[Finding]:
        """Return whether each role that reads one of the views can read all of them, and sees their rows."""
        return postgresql_reader.diagnose_readers(connection, views)

    def view_definitions(self, connection: sa.Connection, prefix: str) -> Iterable[tuple[str, Sequence[str]]]:
        """Return the views with their options, owner and readers."""
        return postgresql_reader.view_definitions(connection, prefix)

    @asynccontextmanager
    async def enlarged_page_cache(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Do nothing: the server's shared buffers hold the pages."""
        yield

    def without_index(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return the column itself: the planner chooses by its statistics."""
        return column

    def contains(self, column: sa.ColumnElement[str], text: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return the position of the text as a condition. For LIKE the planner would use a sample of all tenants."""
        return sa.func.strpos(column, text) > 0

    def search(
        self, table: sa.Table, searched: Sequence[str], columns: Sequence[sa.Column[Any]], max_rows: int
    ) -> Matches:
        """Return the matches of GIN indexes of organizations' trigrams, through the view that lets tenants use them.

        Under row-level security PostgreSQL would check the organization of every row first, and not use the index.
        """
        view = sa.table(f"search_{table.name}", *(sa.column(each.name, each.type) for each in columns))
        organization_id = sa.bindparam("organization_id", type_=ID)
        own = view.c.organization_id == organization_id
        found = []
        for name, conditions in zip(searched, self.searches(view, searched), strict=True):
            text = sa.bindparam(search_parameter(name), type_=OCTETS)
            terms = sa.func.search_terms(view.c.organization_id, view.c[name])
            having = terms.op("@>")(sa.func.search_terms(organization_id, text))
            found.append(sa.select(view).where(own, having, *conditions))
        every = found[0] if len(found) == 1 else sa.select(sa.union_all(*found).subquery("every"))
        rows = every.limit(max_rows).cte("found")
        return Matches(rows, rows)

    async def require_every_row(self, connection: AsyncConnection) -> None:
        """Make the transaction fail where row-level security would silently hide rows."""
        await connection.execute(sa.text("SELECT set_config('row_security', 'off', true)"))

    def octet_order(self, column: sa.ColumnClause[Any]) -> sa.ColumnElement[Any]:
        """Return text in the collation "C": the locale of the database is the default."""
        is_text = isinstance(column.type, sa.String) and column.type is not ID
        return sa.collate(column, "C") if is_text else column

    async def written_position(self, engine: AsyncEngine) -> int | None:
        """Return the position of a primary in its write-ahead log, in octets."""
        return await _position(engine, _WRITTEN)

    async def replayed_position(self, engine: AsyncEngine) -> int | None:
        """Return the position that a replica has replayed.

        A server outside recovery may be a primary with a history of its own: it has none.
        """
        return await _position(engine, _REPLAYED)

    def classify(self, error: BaseException) -> Failure | None:
        """Return the meaning of an SQLSTATE."""
        state = _sqlstate(error)
        if not state:
            return None
        return Failure.UNAVAILABLE if state[:2] in _UNAVAILABLE else _SQLSTATES.get(state, Failure.OTHER)

    def fault_of(self, error: BaseException) -> Fault | None:
        """Return None: the files are the server's, which logs what is wrong with them."""

    def explain(self, error: BaseException) -> str | None:
        """Return the cause of an error that an operator can remedy."""
        return explain_connection(error)


_SHOW_READ_ONLY = "SHOW transaction_read_only"
_MAKE_WRITABLE = "have an administrator reset default_transaction_read_only"

_IS_VALID = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")

_WRITTEN = sa.text("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
_REPLAYED = sa.text("SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint WHERE pg_is_in_recovery()")

_UNAVAILABLE = ("08", "28", "3D")  # connection exceptions, refused users, and missing databases
# Appendix A of the manual.
_SQLSTATES = {
    "23505": Failure.UNIQUE_VIOLATION,
    "40001": Failure.SERIALIZATION,
    "40P01": Failure.SERIALIZATION,  # deadlock_detected
    "25006": Failure.UNAVAILABLE,  # read_only_sql_transaction: the primary has become a replica
    "53100": Failure.UNAVAILABLE,  # disk_full
    "53200": Failure.UNAVAILABLE,  # out_of_memory
    "53300": Failure.UNAVAILABLE,  # too_many_connections
    "57014": Failure.UNAVAILABLE,  # query_canceled: the statement has exceeded statement_timeout
    "57P01": Failure.UNAVAILABLE,  # admin_shutdown
    "57P02": Failure.UNAVAILABLE,  # crash_shutdown
    "57P03": Failure.UNAVAILABLE,  # cannot_connect_now
    "57P05": Failure.UNAVAILABLE,  # idle_session_timeout
}


def tenant_statement(statement: sa.Select[Any]) -> sa.Select[Any]:
    """Return one statement that enters its organization, as `enter_tenant` does, and runs another inside it.

    The condition ties the inner statement to the row that entering returns, and the offset keeps it from being merged
    into the outer one: so PostgreSQL enters first. The setting ends with the statement.
    """
    organization_id = sa.cast(sa.bindparam("organization_id", type_=ID), sa.Text)
    setting: sa.ColumnElement[str] = sa.literal_column("'postroom.organization_id'")
    entering = sa.select(sa.func.set_config(setting, organization_id, sa.true()).label("organization_id"))
    entered = entering.cte("entered").prefix_with("MATERIALIZED")
    inside = statement.where(entered.c.organization_id.is_not(None))
    if inside._offset_clause is None:
        inside = inside.offset(sa.literal_column("0"))
    found = inside.lateral("found")
    return sa.select(*found.c).select_from(entered.join(found, sa.true()))


def _compiled_reader(url: sa.URL, settings: Mapping[str, str], dialect: sa.Dialect, tenants: int) -> CompiledReader:
    """Return the reader of compiled statements. A tenant's run on connections that start as the tenants' role."""

    def pool(size: int, **further: str) -> ExclusivePool:
        engine = _engine(url, {**settings, **further}, poolclass=sa.NullPool)
        return ExclusivePool(partial(_own_connection, engine), size, POOL_TIMEOUT_SECONDS)

    system, tenant = pool(SYSTEM_CONNECTIONS), pool(tenants, role=TENANT_ROLE)
    return CompiledReader(dialect, ReadPath(system, system), ReadPath(tenant, tenant, tenant_statement))


async def _own_connection(engine: AsyncEngine) -> Connection:
    """Return a new asyncpg connection with SQLAlchemy's settings, which SQLAlchemy does not manage."""
    pooled = await engine.raw_connection()
    connection: Any = pooled.driver_connection
    pooled.detach()
    return connection  # type: ignore[no-any-return]


def _is_behind_pooler(url: sa.URL) -> bool:
    """Return whether prepared statements are switched off, as for a transaction-level pooler."""
    return url.query.get("prepared_statement_cache_size") == "0"


def _pool(size: int) -> dict[str, Any]:
    return {"pool_size": size, "max_overflow": 0, "pool_timeout": POOL_TIMEOUT_SECONDS}


def _engine(url: sa.URL, server_settings: Mapping[str, str], **options: Any) -> AsyncEngine:
    translated, arguments = translate(url)
    connecting = {"async_creator_fn": Connector(url), "timeout": CONNECT_TIMEOUT_SECONDS, **arguments}
    try:
        return create_async_engine(
            translated,
            hide_parameters=True,  # parameters are customers' data
            connect_args={"server_settings": dict(server_settings), **connecting},
            **options,
        )
    except (sa.exc.ArgumentError, ValueError) as error:  # of several hosts
        raise StorageUnavailable(reason=f"the hosts or ports of the database URL are invalid: {error}") from error


async def _position(engine: AsyncEngine, statement: sa.TextClause) -> int | None:
    async with engine.connect() as connection:
        position: int | None = (await connection.execute(statement)).scalar()
        return position


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")
