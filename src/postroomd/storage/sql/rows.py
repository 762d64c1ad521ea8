"""What the statements of every resource share: columns of a model, and the tenant's scope."""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, Column, ColumnElement, Row, Table, Text, bindparam, cast, select, type_coerce

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.payments import Payment
from postroomd.domain.provisions import Provision
from postroomd.domain.tenancy import Scope
from postroomd.storage.compiled import CompiledRead, Rows
from postroomd.storage.database import Database
from postroomd.storage.schema import ID, Instant, Named

Model = TypeVar("Model")


def columns_of(model: type[Any], table: Table) -> list[ColumnElement[Any]]:
    """The columns of a table that a model is made of: those named as its fields.

    A named tuple has them as they cost the least: as they are stored, and ids as the database writes them.
    """
    if issubclass(model, tuple):
        return [_plain(table.c[name]) for name in model._fields]  # type: ignore[attr-defined]
    return [table.c[field.name] for field in fields(model)]


def _plain(column: Column[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, Instant):
        return type_coerce(column, BigInteger)
    if isinstance(column.type, Named):
        return type_coerce(column, Text)
    # PostgreSQL's driver would make a UUID of each, only to have a text made of it again.
    return cast(column, Text).label(column.name) if column.type is ID else column


def made(model: type[Model], row: Row[Any]) -> Model:
    """The model of a row of `columns_of`."""
    return model(**row._mapping)


def from_row(model: type[Model], row: Row[Any]) -> Model:
    """The model of a row that has other columns too."""
    return model(**{field.name: row._mapping[field.name] for field in fields(model)})  # type: ignore[arg-type]


def from_rows(model: type[Model], rows: Rows) -> list[Model]:
    """The models of rows that begin with `columns_of`."""
    if issubclass(model, tuple):
        width = len(model._fields)  # type: ignore[attr-defined]
        return [model._make(row[:width]) for row in rows]  # type: ignore[attr-defined]
    names = [field.name for field in fields(model)]  # type: ignore[arg-type]
    return [model(**dict(zip(names, row, strict=False))) for row in rows]


def values_of(model: Any) -> dict[str, Any]:
    """The columns of a frozen model, to be written."""
    return {field.name: getattr(model, field.name) for field in fields(model)}


def stored_values_of(model: Payment | Provision) -> dict[str, Any]:
    """The columns of what the operator's side sees, without the address that is joined to it."""
    values = values_of(model)
    del values["address"]
    return values


def within(table: Table, scope: Scope) -> Iterable[ColumnElement[bool]]:
    """The conditions that keep a statement inside what its caller can reach: part of every statement for a tenant."""
    yield table.c.organization_id == scope.organization_id
    if scope.project_id is not None:
        yield table.c.project_id == scope.project_id


def reached(table: Table, *, limited: bool) -> Iterable[ColumnElement[bool]]:
    """The conditions of `within` for a hot statement, whose values come with its scope."""
    yield table.c.organization_id == bindparam("organization_id")
    if limited:
        yield table.c.project_id == bindparam("project_id")


class ById(Generic[Model]):
    """How one value of the caller's is found by its id: by a hot statement."""

    def __init__(self, model: type[Model], table: Table, kind: str) -> None:
        self._model = model
        self._kind = kind
        self._in_organization, self._in_project = (
            CompiledRead(
                select(*columns_of(model, table)).where(
                    table.c.id == bindparam("id"), *reached(table, limited=limited)
                ),
                by_key=True,
            )
            for limited in (False, True)
        )

    async def found(self, database: Database, context: CallContext, value_id: str) -> Model:
        """One value of the caller's. Raises NotFound."""
        statement = self._in_organization if context.scope.project_id is None else self._in_project
        rows = await database.fetch(statement, {"id": value_id}, context)
        if not rows:
            raise NotFound(self._kind, value_id)
        return from_rows(self._model, rows)[0]


def this_row(table: Table, model: Any) -> Iterable[ColumnElement[bool]]:
    """The conditions that find a stored value again: its id, and its organization's."""
    yield table.c.id == model.id
    yield table.c.organization_id == model.organization_id


def counted(model: Model) -> Model:
    """The value with its next revision: a change that is about to be written."""
    return replace(model, revision=model.revision + 1)  # type: ignore[attr-defined, type-var]
