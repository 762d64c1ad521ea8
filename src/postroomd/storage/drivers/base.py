"""The interface of a database engine: everything that differs between SQLite and PostgreSQL.

Each engine implements `Driver` in one module; `postroomd.storage.drivers` chooses the implementation by URL or
connection. No other module asks for the name of an engine.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import (
    CTE,
    URL,
    Column,
    ColumnClause,
    ColumnElement,
    Connection,
    FromClause,
    Index,
    SelectBase,
    Table,
    bindparam,
    func,
    not_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex

from postroomd.domain.diagnosis import Finding
from postroomd.domain.tenancy import Scope
from postroomd.observability.logs import get_logger
from postroomd.storage.compiled import CompiledReader
from postroomd.storage.drivers.types import OCTETS

POOL_TIMEOUT_SECONDS = 10.0
"""Maximum wait for a connection of a pool."""
READERS_SECONDS = 5.0
"""Maximum wait for running reads before their connections are abandoned."""

log = get_logger()


class Failure(Enum):
    """The meaning of a driver's error."""

    UNAVAILABLE = auto()  # the database cannot be reached, or cannot be written to, for now
    DAMAGED = auto()
    SERIALIZATION = auto()  # a serialization failure or a deadlock: the transaction can be retried
    UNIQUE_VIOLATION = auto()
    OTHER = auto()


class FaultKind(StrEnum):
    """The kind of a fault: the values of `kind` in the log and in the metric."""

    DAMAGED = "damaged"
    FILE_REPLACED = "file_replaced"
    LOG_REPLACED = "log_replaced"
    DISK_FULL = "disk_full"
    IO_ERROR = "io_error"

    @property
    def detaches(self) -> bool:
        """Whether the process has to close the files: its connections have others open than new ones would."""
        return self in {FaultKind.FILE_REPLACED, FaultKind.LOG_REPLACED}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the files of a database. `cause` is one sentence in ASCII with the remedy, without paths.

    After a lasting one, changes are refused until the process is restarted: they would be lost, or damage more.
    """

    kind: FaultKind
    cause: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Engines:
    """The connection pools of one database. Reader and writer are the same pool on PostgreSQL.

    `compiled` is None behind a transaction-level pooler, where prepared statements are not available.
    """

    driver: "Driver"
    reader: AsyncEngine
    writer: AsyncEngine
    compiled: CompiledReader | None
    upkeep: Callable[[], Awaitable[None]] | None = None
    """Keeps the write-ahead log small until cancelled, where that is a process's task: in the service and the worker on
    SQLite."""
    wait_for_room: Callable[[], Awaitable[None]] | None = None
    """Returns once the write-ahead log has room for another transaction, where the process has to wait for that."""
    check_files: Callable[[], Awaitable[Fault | None]] | None = None
    """Returns what is wrong with the files, in the processes with `upkeep`."""
    rescue: Callable[[], Awaitable[bool | None]] | None = None
    """Stores what a deleted write-ahead log holds. Returns whether that is every commit, None if another process has to
    store it."""
    close_files: Callable[[], Awaitable[None]] | None = None

    async def close(self) -> None:
        """Close every connection after its running statement; the writer's must be idle."""
        await self._wait_for_reads()
        if self.close_files:
            await self.close_files()
        if self.compiled:
            await self.compiled.close()
        await self.reader.dispose()
        await self.writer.dispose()

    async def _wait_for_reads(self) -> None:
        # A disposed pool does not close what is in use, nor what is being opened.
        pool: Any = self.reader.pool
        try:
            async with asyncio.timeout(READERS_SECONDS):
                while pool.checkedout():  # noqa: ASYNC110 - a pool has no event for it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("reads are still running")


@dataclass(frozen=True, slots=True)
class Matches:
    """The rows that a substring search finds.

    Bound parameters: `organization_id`, the `search_parameter` of each searched column, and `phrases` for FTS5.
    """

    ids: CTE
    """Keys in the trigram index, evaluated once for both `rows` and `count`."""
    rows: FromClause
    """The matching rows."""

    @property
    def count(self) -> ColumnElement[int]:
        """The number of keys."""
        return select(func.count()).select_from(self.ids).scalar_subquery()


def search_parameter(column: str) -> str:
    """Return the name of the bound parameter with the text that a column is searched for."""
    return f"search_{column}"


class Driver(ABC):
    """One database engine."""

    name: ClassVar[str]
    """SQLAlchemy's name of the dialect."""

    # --- Opening ---

    @abstractmethod
    def open_engines(
        self,
        url: URL,
        *,
        owner: bool,
        worker: bool,
        pool_size: int,
        isolation: str | None,
        statement_timeout_seconds: float,
    ) -> Engines:
        """Return the connection pools of a database, without connecting yet.

        `owner` checkpoints an SQLite file, and a `worker` waits for that; the other arguments apply to PostgreSQL.
        `statement_timeout_seconds` is the maximum duration of a statement, 0 for none.
        """

    @abstractmethod
    def describe(self, url: URL, *, with_user: bool = False) -> str:
        """Return the location of a database for messages, without a password, and the user only on request."""

    @abstractmethod
    def file(self, url: URL) -> Path | None:
        """Return the file of a database, or None if a server holds it."""

    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Return the versions of bundled libraries, for the log."""

    # --- Transactions ---

    @abstractmethod
    async def enter_tenant(self, connection: AsyncConnection, scope: Scope) -> None:
        """Restrict a transaction to the rows of one organization, if the engine has row-level security."""

    @abstractmethod
    async def server_time(self, connection: AsyncConnection) -> datetime | None:
        """Return the current time of the database's server; None if there is no server with a clock of its own."""

    @abstractmethod
    def enlarged_page_cache(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """Return a context in which a bulk change keeps its changed pages in memory."""

    async def build_indexes(self, engine: AsyncEngine, indexes: Sequence[Index]) -> None:
        """Build those of the indexes that are missing, on a database in use."""
        async with engine.begin() as connection:
            for index in indexes:
                await connection.execute(CreateIndex(index, if_not_exists=True))

    def write_fault(self, url: URL) -> str | None:
        """Return why this process can't write to the database, if that can be told without a connection."""
        return None

    async def read_only_fault(self, connection: AsyncConnection) -> str | None:
        """Return why the database accepts no changes from this process, if a server can tell."""
        return None

    @abstractmethod
    def diagnose(self, connection: Connection) -> Sequence[Finding]:
        """Return the findings on the engine, for the operator. Changes nothing."""

    @abstractmethod
    def diagnose_readers(self, connection: Connection, views: Sequence[str]) -> Sequence[Finding]:
        """Return the findings on who may read the mail servers' views, for the operator. Changes nothing."""

    # --- Isolation of tenants ---

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Create what migrations refer to and the database itself does not hold. Raises SchemaMismatch."""

    @abstractmethod
    def repair(self, connection: Connection, tables: Sequence[str], searched: Sequence[tuple[str, str]]) -> None:
        """Create what a migrated database may lack after a restore. Raises SchemaMismatch, with a remedy.

        `tables` hold rows of tenants; `searched` has the tables and columns with a trigram index.
        """

    @abstractmethod
    def faults(
        self, connection: Connection, tables: Sequence[str], searched: Sequence[tuple[str, str]]
    ) -> Sequence[str]:
        """Return what `repair` would create, for the operator; empty for an intact database."""

    @abstractmethod
    def hidden_tables(self, connection: Connection, tables: Sequence[str]) -> Sequence[str]:
        """Return the tables of which the database user does not see every row."""

    # --- Mail servers ---

    @abstractmethod
    def create_reader(self, connection: Connection, name: str, password: str, views: Sequence[str]) -> None:
        """Create a role, or set its password, that may read these views and nothing else.

        Raises RoleRefused for one that may do more, and for an engine without roles.
        """

    @abstractmethod
    def view_definitions(self, connection: Connection, prefix: str) -> Iterable[tuple[str, Sequence[str]]]:
        """Return the views whose name has a prefix, each with the statements that create it as it is."""

    # --- Queries ---

    @abstractmethod
    def without_index(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a column to be compared in rows found by another condition, never by an index of its own."""

    @abstractmethod
    def contains(self, column: ColumnElement[str], text: ColumnElement[str]) -> ColumnElement[bool]:
        """Return whether a column contains a text, octet by octet, with an estimate that no other row influences."""

    def matches(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """Return whether a searched column contains the text that is bound for it."""
        return self.contains(column, bindparam(search_parameter(str(column.key)), type_=OCTETS))

    def searches(self, source: FromClause, columns: Sequence[str]) -> Iterator[list[ColumnElement[bool]]]:
        """Yield the conditions of the rows that match in each searched column, and in none before it."""
        for number, name in enumerate(columns):
            column, before = source.c[name], columns[:number]
            # Only the first column has a value in every row; the index of any other is one of its values.
            present = [column.is_not(None)] if before else []
            yield [*present, self.matches(column), *(not_(self.matches(source.c[other])) for other in before)]

    @abstractmethod
    def search(self, table: Table, searched: Sequence[str], columns: Sequence[Column[Any]], max_rows: int) -> Matches:
        """Return up to `max_rows` matches in the searched columns, by the index of an organization's trigrams.

        What is read depends on rows of the organization alone, so that the time tells nothing of others.
        `columns` are those of the view that PostgreSQL searches through.
        """

    def rows_by_id(self, table: Table, ids: SelectBase) -> FromClause:
        """Return the rows of a table with these ids, found by primary key whatever further conditions there are."""
        columns = [each if each is table.c.id else self.without_index(each).label(each.name) for each in table.c]
        return select(*columns).where(table.c.id.in_(ids)).subquery("by_id")

    # --- Copying ---

    snapshot_options: ClassVar[Mapping[str, Any]]
    """Execution options of a connection whose transaction reads one snapshot."""

    @abstractmethod
    async def require_every_row(self, connection: AsyncConnection) -> None:
        """Make statements fail in which row-level security would hide rows."""

    @abstractmethod
    def octet_order(self, column: ColumnClause[Any]) -> ColumnElement[Any]:
        """Return a column ordered octet by octet."""

    # --- Replication ---

    @abstractmethod
    async def written_position(self, engine: AsyncEngine) -> int | None:
        """Return the position of a primary in its write-ahead log, in octets."""

    @abstractmethod
    async def replayed_position(self, engine: AsyncEngine) -> int | None:
        """Return the position that a replica has replayed, in octets; None if the server is not a replica."""

    # --- Errors ---

    @abstractmethod
    def classify(self, error: BaseException) -> Failure | None:
        """Return the meaning of an unwrapped error, or None if it does not come from this driver."""

    @abstractmethod
    def fault_of(self, error: BaseException) -> Fault | None:
        """Return what an unwrapped error tells of the database's files, or None."""

    @abstractmethod
    def explain(self, error: BaseException) -> str | None:
        """Return the cause of an unwrapped error for a message, or None if there is no specific text."""
