"""Hot statements: what is read so often that most of its time would go into SQLAlchemy, run by the driver alone.

SQLAlchemy builds such a statement and compiles it, once for an engine; from then on its SQL runs in one call on a
connection of the driver's own, outside of any transaction that the client would have to begin and end. Values go in
and come out through the same types as everywhere.

The plain way, `plainly`, runs the very same statement over SQLAlchemy: it is what the tests compare the answers with,
and what serves where there is no driver of our own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.storage.drivers.pools import Lines, Rows

Values = Mapping[str, Any]
"""The values of a statement's bound parameters by name. Those of a tenant have its organization_id."""

Processor = Callable[[Any], Any]
Wrap = Callable[[Select[Any]], Select[Any]]


class CompiledRead:
    """A SELECT whose parameters are named by `bindparam`, to be made once and run often.

    It has no expanding IN: its SQL is the same whatever the values. What it answers fits in memory. One that finds a
    row or two `by_key` takes microseconds, and is not made to wait for those that don't.
    """

    def __init__(self, select: Select[Any], *, by_key: bool = False) -> None:
        self.select = select
        self.by_key = by_key
        self._compiled: dict[tuple[str, Wrap | None], Compiled] = {}

    def compiled(self, dialect: Dialect, wrap: Wrap | None) -> "Compiled":
        """The statement for a dialect, put into what `wrap` gives where there is one; made at its first use."""
        key = (dialect.name, wrap)
        if (found := self._compiled.get(key)) is None:
            found = self._compiled[key] = Compiled.of(wrap(self.select) if wrap else self.select, dialect)
        return found


@dataclass(frozen=True, slots=True)
class Compiled:
    """The SQL of a statement, what turns values into its arguments, and what turns its rows into values."""

    sql: str
    parameters: Sequence[tuple[str, Processor | None]]
    given: Values
    """The values that the statement itself has, such as a limit."""
    processors: Sequence[tuple[int, Processor]]
    """By column; a column that is not here needs nothing done."""

    @classmethod
    def of(cls, select: Select[Any], dialect: Dialect) -> "Compiled":
        """A statement, compiled for a dialect. Raises ValueError for one whose SQL depends on its values."""
        if any(parameter.expanding for parameter in select.compile(dialect=dialect).binds.values()):
            raise ValueError("a hot statement has one SQL, whatever the values of its parameters")
        compiled = select.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        names = compiled.positiontup or ()
        types = {name: compiled.binds[name].type.dialect_impl(dialect) for name in names}
        columns = [column.type.dialect_impl(dialect) for column in select.selected_columns]
        return cls(
            sql=compiled.string,
            parameters=[(name, types[name].bind_processor(dialect)) for name in names],
            given={name: value for name, value in compiled.params.items() if value is not None},
            processors=[
                (number, processor)
                for number, kind in enumerate(columns)
                if (processor := kind.result_processor(dialect, None)) is not None
            ],
        )

    def arguments(self, values: Values) -> list[Any]:
        """The driver's arguments, in their order. Raises KeyError for a value that is missing."""
        if self.given:
            values = {**self.given, **values}
        return [values[name] if process is None else process(values[name]) for name, process in self.parameters]

    def values(self, rows: Rows) -> Rows:
        """The driver's rows as Python values."""
        if not self.processors:
            return rows
        found = []
        for row in rows:
            made = list(row)
            for number, process in self.processors:
                made[number] = process(made[number])
            found.append(made)
        return found


@dataclass(frozen=True, slots=True)
class Way:
    """How hot statements of one kind of caller run: by a key, and others."""

    by_key: Lines
    others: Lines
    wrap: Wrap | None = None
    """What a statement is put into first."""


@dataclass(frozen=True, slots=True)
class CompiledReader:
    """Runs hot statements on one database: our own, and tenants' where the database itself keeps them inside."""

    dialect: Dialect
    own: Way
    tenants: Way

    async def fetch(self, statement: CompiledRead, values: Values, *, for_tenant: bool) -> Rows:
        """The rows of a statement. Raises what the driver raises, and TimeoutError where all lines stay taken."""
        way = self.tenants if for_tenant else self.own
        compiled = statement.compiled(self.dialect, way.wrap)
        lines = way.by_key if statement.by_key else way.others
        return compiled.values(await lines.fetch(compiled.sql, compiled.arguments(values)))

    async def close(self) -> None:
        """Close every connection."""
        for lines in {self.own.by_key, self.own.others, self.tenants.by_key, self.tenants.others}:
            await lines.close()


async def via_sqlalchemy(connection: AsyncConnection, statement: CompiledRead, values: Values) -> Rows:
    """The rows of a hot statement, over SQLAlchemy."""
    rows: Rows = (await connection.execute(statement.select, dict(values))).all()
    return rows
