"""The query for due work: the conditions that make a row due, each served by an index."""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.model import DomainStatus
from postroomd.storage import schema as t
from postroomd.storage.protocols.work import Due

HISTORY_INTERVAL = timedelta(hours=1)
"""How long rows whose retention has passed wait for more, so that they are removed in batches."""

PROVISIONING = (t.domains.c.status == DomainStatus.PROVISIONING, t.domains.c.provision_id.is_(None))
"""The conditions of a domain to activate: one that returns may await the mail platform first."""

_mailboxes = select(t.mailboxes.c.id).where(t.mailboxes.c.domain_id == t.domains.c.id)

PURGEABLE = (
    t.domains.c.status == DomainStatus.DELETING,
    _mailboxes.where(*t.TO_PURGE).exists() | (~_mailboxes.exists() & t.domains.c.provision_id.is_(None)),
)
"""The conditions of a deleting domain with mailboxes to purge, or without mailboxes and with no pending provision."""


async def fetch_due(
    connection: AsyncConnection,
    *,
    with_provisions: bool,
    with_session_ends: bool,
    history_retention: timedelta | None,
    audit_retention: timedelta | None,
) -> Due:
    """Return the earliest due dates; those of provisions, sessions to end and expired history only on request."""
    provisions = _earliest(t.provisions.c.next_attempt_at, t.PENDING_PROVISION) if with_provisions else null()
    session_ends = _earliest(t.session_ends.c.due_at) if with_session_ends else null()
    query = select(
        _earliest(t.domains.c.next_check_at).label("lookups"),
        _earliest(t.mailboxes.c.due_at).label("mailboxes"),
        _earliest(t.idempotency_keys.c.expires_at).label("responses"),
        session_ends.label("session_ends"),
        _earliest(t.dkim_rotations.c.retires_at).label("dkim_keys"),
        provisions.label("provisions"),
        *(
            _earliest(since, *conditions).label(f"history_{number}")
            for number, (_, since, conditions) in enumerate(t.HISTORY if history_retention else ())
        ),
        (_earliest(t.audit_events.c.at) if audit_retention else null()).label("audit"),
        _any_domain(*PROVISIONING).label("provisioning"),
        _any_domain(t.PROPAGATING).label("propagating"),
        _any_domain(*PURGEABLE).label("purgeable"),
    )
    row = (await connection.execute(query)).one()
    due = [row.mailboxes, row.responses, row.session_ends, row.dkim_keys, row.provisions]
    if history_retention:
        oldest = [row._mapping[f"history_{number}"] for number in range(len(t.HISTORY))]
        due += [since + history_retention + HISTORY_INTERVAL for since in oldest if since]
    if audit_retention and row.audit:
        due.append(row.audit + audit_retention + HISTORY_INTERVAL)
    steps = min(filter(None, due), default=None)
    return Due(row.lookups, steps, immediate=bool(row.provisioning or row.propagating or row.purgeable))


def _earliest(column: Any, *conditions: ColumnElement[bool]) -> Any:
    """Return a subquery of the earliest instant of a column."""
    return select(func.min(column)).where(column.is_not(None), *conditions).scalar_subquery()


def _any_domain(*conditions: ColumnElement[bool]) -> Any:
    """Return a subquery of the id of one domain that meets the conditions."""
    return select(t.domains.c.id).where(*conditions).limit(1).scalar_subquery()
