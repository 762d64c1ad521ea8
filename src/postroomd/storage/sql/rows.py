"""Mapping between models and rows, and the tenant scope of a statement."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, Column, ColumnElement, Row, Table, Text, bindparam, cast, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.tenancy import Scope
from postroomd.storage.compiled import CompiledRead, Rows
from postroomd.storage.database import Database
from postroomd.storage.schema import ID, Instant, Named

Model = TypeVar("Model")

JOINED_FIELDS = frozenset(
    {"address", "forwarding_email", "forwarding_keep_copy", "forwarding_enabled", "mailbox_state"}
)
"""Fields of Payment and Provision that a join fills in: no table has a column for them."""


def columns_of(model: type[Any], table: Table) -> list[ColumnElement[Any]]:
    """Return the columns of a table that hold a model's fields, in the order of the fields.

    The columns of a named tuple are read without conversion: instants as microseconds, enums and ids as text.
    """
    names = _stored_fields(model)
    if issubclass(model, tuple):
        return [_raw_column(table.c[name]) for name in names]
    return [table.c[name] for name in names]


def _raw_column(column: Column[Any]) -> ColumnElement[Any]:
    """Return a column whose values reach Python as the database sends them."""
    if isinstance(column.type, Instant):
        return type_coerce(column, BigInteger)
    if isinstance(column.type, Named):
        return type_coerce(column, Text)
    # asyncpg would parse each UUID into an object, which is then formatted as text again.
    return cast(column, Text).label(column.name) if column.type is ID else column


def _stored_fields(model: type[Any]) -> Sequence[str]:
    """Return the names of a model's fields that have a column."""
    if issubclass(model, tuple):
        return model._fields  # type: ignore[attr-defined, no-any-return]
    return [field.name for field in fields(model) if field.name not in JOINED_FIELDS]


def from_row(model: type[Model], row: Row[Any]) -> Model:
    """Return the model that a row holds, by column name.

    Columns that are no field of the model are ignored; a field without a column gets its default.
    """
    known = model.__dataclass_fields__  # type: ignore[attr-defined]
    return model(**{name: value for name, value in row._mapping.items() if name in known})


def from_rows(model: type[Model], rows: Rows) -> list[Model]:
    """Return the models of rows whose first columns are `columns_of`, by position."""
    names = _stored_fields(model)
    if issubclass(model, tuple):
        width = len(names)
        return [model._make(row[:width]) for row in rows]  # type: ignore[attr-defined]
    return [model(**dict(zip(names, row, strict=False))) for row in rows]


def to_row(model: Any) -> dict[str, Any]:
    """Return the column values of a model."""
    return {name: getattr(model, name) for name in _stored_fields(type(model))}


def with_next_revision(model: Model) -> Model:
    """Return a changed model with its revision incremented, ready to be written."""
    return replace(model, revision=model.revision + 1)  # type: ignore[attr-defined, type-var]


def row_filter(table: Table, model: Any) -> Iterable[ColumnElement[bool]]:
    """Yield the conditions that select the stored row of a model: its id and its organization."""
    yield table.c.id == model.id
    yield table.c.organization_id == model.organization_id


def scope_filter(table: Table, scope: Scope) -> Iterable[ColumnElement[bool]]:
    """Yield the conditions that restrict a statement to a tenant's scope. Every tenant statement has them."""
    yield table.c.organization_id == scope.organization_id
    if scope.project_id is not None:
        yield table.c.project_id == scope.project_id


def bound_scope_filter(table: Table, *, by_project: bool) -> Iterable[ColumnElement[bool]]:
    """Yield the conditions of `scope_filter` as bound parameters, which `Database.fetch` fills from the context."""
    yield table.c.organization_id == bindparam("organization_id")
    if by_project:
        yield table.c.project_id == bindparam("project_id")


class LookupById(Generic[Model]):
    """A read of one tenant resource by its id: compiled, or as a part of a transaction."""

    def __init__(self, model: type[Model], table: Table, resource: str) -> None:
        self._model = model
        self._table = table
        self._columns = columns_of(model, table)
        self._resource = resource
        self._in_organization, self._in_project = (
            CompiledRead(
                select(*self._columns).where(
                    table.c.id == bindparam("id"), *bound_scope_filter(table, by_project=by_project)
                ),
                by_key=True,
            )
            for by_project in (False, True)
        )

    async def fetch(self, database: Database, context: CallContext, resource_id: str) -> Model:
        """Return the resource. Raises NotFound if none in the caller's scope has the id."""
        statement = self._in_organization if context.scope.project_id is None else self._in_project
        rows = await database.fetch(statement, {"id": resource_id}, context)
        if not rows:
            raise NotFound(self._resource, resource_id)
        return from_rows(self._model, rows)[0]

    async def within(self, connection: AsyncConnection, scope: Scope, resource_id: str, *, lock: bool = False) -> Model:
        """Return the resource in a transaction, with its row locked if `lock`. Raises NotFound if none in the scope."""
        query = select(*self._columns).where(self._table.c.id == resource_id, *scope_filter(self._table, scope))
        row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise NotFound(self._resource, resource_id)
        return from_row(self._model, row)
