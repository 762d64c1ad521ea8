"""Compiled reads: frequent statements whose SQL is compiled once and then run by the driver alone.

SQLAlchemy builds and compiles such a statement once per engine, which would otherwise take most of its time. From then
on its SQL runs in one call on a connection of the driver's own, outside any transaction that the client would have to
begin and end. Values are converted by the same column types as elsewhere.

`via_sqlalchemy` runs the same statement over SQLAlchemy: the tests compare the results with it, and it serves where the
driver's own connections are not available.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import BindParameter, Dialect, Select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.visitors import iterate

Rows = Sequence[Sequence[Any]]
"""Rows in the order of their statement's columns."""

Values = Mapping[str, Any]
"""Values of a statement's bound parameters by name. Those of a tenant include its organization_id."""

Processor = Callable[[Any], Any]
Wrap = Callable[[Select[Any]], Select[Any]]


class CompiledRead:
    """A SELECT with parameters named by `bindparam`, built once and run often.

    It has no expanding IN, so that its SQL does not depend on its values, and its result fits in memory. A statement
    that finds a row or two `by_key` takes microseconds, and never queues behind one that does not.
    """

    def __init__(self, select: Select[Any], *, by_key: bool = False) -> None:
        self.select = select
        self.by_key = by_key
        self._compiled: dict[tuple[type[Dialect], Wrap | None], Compiled] = {}

    def compiled(self, dialect: Dialect, wrap: Wrap | None) -> "Compiled":
        """Return the statement, wrapped by `wrap`, compiled for a dialect on first use."""
        key = (type(dialect), wrap)
        if (found := self._compiled.get(key)) is None:
            found = self._compiled[key] = Compiled.of(wrap(self.select) if wrap else self.select, dialect)
        return found


@dataclass(frozen=True, slots=True)
class Compiled:
    """The SQL of a statement, and the conversions of its arguments and of its rows."""

    sql: str
    parameters: Sequence[tuple[str, Processor | None]]
    constants: Values
    """Values that are part of the statement, such as a limit."""
    processors: Sequence[tuple[int, Processor]]
    """By column; a column that needs no conversion is absent."""

    @classmethod
    def of(cls, select: Select[Any], dialect: Dialect) -> "Compiled":
        """Compile a statement for a dialect. Raises ValueError for one whose SQL depends on its values."""
        if any(isinstance(element, BindParameter) and element.expanding for element in iterate(select)):
            raise ValueError("a compiled read must have one SQL text, whatever the values of its parameters")
        compiled = select.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        names = compiled.positiontup or ()
        types = {name: compiled.binds[name].type.dialect_impl(dialect) for name in names}
        columns = [column.type.dialect_impl(dialect) for column in select.selected_columns]
        return cls(
            sql=compiled.string,
            parameters=[(name, types[name].bind_processor(dialect)) for name in names],
            constants={name: value for name, value in compiled.params.items() if value is not None},
            processors=[
                (number, processor)
                for number, kind in enumerate(columns)
                if (processor := kind.result_processor(dialect, None)) is not None
            ],
        )

    def arguments(self, values: Values) -> list[Any]:
        """Return the driver's arguments in order. Raises KeyError for a missing value."""
        if self.constants:
            values = {**self.constants, **values}
        return [values[name] if process is None else process(values[name]) for name, process in self.parameters]

    def values(self, rows: Rows) -> Rows:
        """Convert the driver's rows to Python values."""
        if not self.processors:
            return rows
        converted = []
        for row in rows:
            values = list(row)
            for number, process in self.processors:
                values[number] = process(values[number])
            converted.append(values)
        return converted


class ConnectionPool(Protocol):
    """A driver's own connections to one database, opened on first use. A closed pool can be used again."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Return all rows of a statement.

        Raises the driver's errors, and TimeoutError if no connection becomes free in time.
        """

    async def close(self) -> None:
        """Close every connection after its running statement."""


@dataclass(frozen=True, slots=True)
class ReadPath:
    """The connections of one kind of caller, for lookups by key and for other statements."""

    by_key: ConnectionPool
    others: ConnectionPool
    wrap: Wrap | None = None
    """What each statement is wrapped in."""


@dataclass(frozen=True, slots=True)
class CompiledReader:
    """Runs compiled reads on one database: Postroom's own, and tenants' where the engine isolates tenants."""

    dialect: Dialect
    system: ReadPath
    tenant: ReadPath

    async def fetch(self, statement: CompiledRead, values: Values, *, for_tenant: bool) -> Rows:
        """Return the rows of a statement.

        Raises the driver's errors, and TimeoutError if no connection becomes free in time.
        """
        path = self.tenant if for_tenant else self.system
        compiled = statement.compiled(self.dialect, path.wrap)
        pool = path.by_key if statement.by_key else path.others
        return compiled.values(await pool.fetch(compiled.sql, compiled.arguments(values)))

    async def close(self) -> None:
        """Close every connection."""
        for pool in {self.system.by_key, self.system.others, self.tenant.by_key, self.tenant.others}:
            await pool.close()


async def via_sqlalchemy(connection: AsyncConnection, statement: CompiledRead, values: Values) -> Rows:
    """Return the rows of a compiled read, run over SQLAlchemy."""
    rows: Rows = (await connection.execute(statement.select, dict(values))).all()
    return rows
