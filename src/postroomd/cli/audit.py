"""`postroom audit`: the audit log, from the admin service."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroomd.cli.connection import admin_service
from postroomd.cli.messages import pages, to_row
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_rows, rfc3339
from postroomd.domain.keys import ACCESS_KEY
from postroomd.domain.validation import is_uuid
from postroomd.durations import parse_duration
from postroomd.settings import InvalidSetting, Settings

if TYPE_CHECKING:
    from postroom.admin.v1alpha1.audit_pb2 import AuditEvent

PAGE_SIZE = 1_000
DEFAULT_LIMIT = 100
COLUMNS = ("at", "actor", "action", "resource_type", "resource_id", "client_address", "request_id")


@with_settings("operator client")
def audit(
    *,
    settings: Settings,
    organization_id: Annotated[
        str | None, typer.Option("--organization-id", metavar="ID", help="List only changes of this organization.")
    ] = None,
    project_id: Annotated[
        str | None, typer.Option("--project-id", metavar="ID", help="List only changes of this project.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="List only changes by this access key, admin key, or actor such as command:root.",
        ),
    ] = None,
    resource_id: Annotated[
        str | None,
        typer.Option(
            "--resource-id",
            metavar="ID",
            help="List only changes of this resource. Mailboxes are created as a change of their domain.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="List only changes from this time on: RFC 3339, or an age such as 12h, 30d."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="List only changes before this time, as --since.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="N", help="Maximum number of changes; 0 for no limit.")
    ] = DEFAULT_LIMIT,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List committed changes, newest first: when, by whom, what, and from where.

    With --output json, each change is one line of JSON. Refused calls are in the log of the service; what the worker
    does by itself is in the history.
    """
    now = datetime.now(UTC)
    filters: dict[str, Any] = {
        "organization_id": _uuid("--organization-id", organization_id),
        "project_id": _uuid("--project-id", project_id),
        "actor": None if key is None else _actor(key),
        "resource_id": resource_id,
        "since": _instant("--since", since, now),
        "until": _instant("--until", until, now),
    }
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.audit_pb2 import ListAuditEventsRequest

        request = ListAuditEventsRequest(**{name: value for name, value in filters.items() if value is not None})
        rows = map(_row, pages(service.ListAuditEvents, request, "events", PAGE_SIZE, limit))
        if output is ListFormat.JSON:
            for row in rows:
                typer.echo(json.dumps(row, ensure_ascii=False, default=rfc3339))
        else:
            print_rows([*rows], COLUMNS, output)


def _row(event: "AuditEvent") -> dict[str, Any]:
    """Return the row of an event, in which what belongs to no organization or project has none."""
    row = to_row(event)
    return row | {name: row[name] or None for name in ("organization_id", "project_id")}


def _uuid(flag: str, value: str | None) -> str | None:
    if value is not None and not is_uuid(value):
        raise InvalidSetting(f"{flag}: expected a UUID")
    return value and value.lower()


def _actor(key: str) -> str:
    """Return the actor that an option names: an access key, the name of an admin key, or an actor itself."""
    if ":" in key:
        return key
    return f"key:{key}" if ACCESS_KEY.fullmatch(key) else f"admin:{key}"


def _instant(flag: str, text: str | None, now: datetime) -> datetime | None:
    """Return the instant of an RFC 3339 time, or of an age. Raises InvalidSetting."""
    if text is None:
        return None
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSetting(f"{flag}: expected a time such as 2026-11-26T08:00:00Z, or an age such as 30d") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
