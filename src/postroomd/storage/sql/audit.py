"""The audit log, as the operator reads it."""

from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.audit import AuditEvent, AuditFilter
from postroomd.domain.errors import NotFound
from postroomd.domain.queries import Slice
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_of
from postroomd.storage.sql.cursors import after_cursor, slice_of
from postroomd.storage.sql.rows import columns_of, from_row
from postroomd.storage.sql.tenancy import require_organization

EVENT = columns_of(AuditEvent, t.audit_events)


class SqlAuditLog:
    """The audit log of every tenant and the operator."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, matching: AuditFilter, cursor: str, limit: int) -> Slice[AuditEvent]:
        """Return up to `limit` events, newest first. Raises InvalidArguments for a malformed cursor, and NotFound."""

        async def transaction(connection: AsyncConnection) -> list[AuditEvent]:
            query = list_query(connection, matching, cursor, limit + 1)
            found = [from_row(AuditEvent, row) for row in await connection.execute(query)]
            if not found and not cursor:
                await _require_subjects(connection, matching)
            return found

        events = await self._database.read(transaction)
        return slice_of(events, limit, lambda last: (last.at, last.id))


async def _require_subjects(connection: AsyncConnection, matching: AuditFilter) -> None:
    """Raise NotFound for an unknown organization, and for a project that is unknown or of another organization."""
    if matching.organization_id is not None:
        await require_organization(connection, matching.organization_id)
    if matching.project_id is not None:
        query = select(t.projects.c.id).where(t.projects.c.id == matching.project_id)
        if matching.organization_id is not None:
            query = query.where(t.projects.c.organization_id == matching.organization_id)
        if (await connection.execute(query)).one_or_none() is None:
            raise NotFound("project", matching.project_id)


def list_query(connection: AsyncConnection, matching: AuditFilter, cursor: str, limit: int) -> Select[Any]:
    """Return the query of a list. Raises InvalidArguments for a malformed cursor."""
    columns = t.audit_events.c
    position = after_cursor(cursor, columns.at, columns.id, descending=True)
    query = select(*EVENT).where(*_conditions(connection, matching), *position)
    return query.order_by(columns.at.desc(), columns.id.desc()).limit(limit)


def _conditions(connection: AsyncConnection, matching: AuditFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter. Only the most selective one chooses the index, which has the list's order."""
    columns, driver = t.audit_events.c, driver_of(connection)
    conditions: list[ColumnElement[bool]] = []
    for name in t.AUDIT_FILTERS:
        if (value := getattr(matching, name)) is not None:
            column = driver.without_index(columns[name]) if conditions else columns[name]
            conditions.append(column == value)
    if matching.since is not None:
        conditions.append(columns.at >= matching.since)
    if matching.until is not None:
        conditions.append(columns.at < matching.until)
    return conditions
