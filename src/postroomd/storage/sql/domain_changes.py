"""Writes of domains, each with its transitions and provisions in the same transaction."""

from datetime import datetime

from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.domains import DOMAIN_TRANSITIONS
from postroomd.domain.events import DomainEvent
from postroomd.domain.history import DomainTransition, address_hash
from postroomd.domain.model import Domain, DomainStatus
from postroomd.domain.sessions import domain_session_end
from postroomd.domain.transitions import check_transition
from postroomd.storage import schema as t
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.secret_keys import Sealed
from postroomd.storage.sql.provisions import store_provisions
from postroomd.storage.sql.rows import row_filter, to_row
from postroomd.storage.sql.sessions import request_session_end


async def insert_domain(
    connection: AsyncConnection, actor: str, domain: Domain, secrets: DomainSecrets, private_key: Sealed
) -> None:
    """Insert a new domain with its transition and provision. `private_key` is that of the secrets, as it is stored."""
    secret_columns = {
        "validation_token": secrets.validation_token,
        "dkim_selector": secrets.dkim_selector,
        "dkim_private_key": private_key.text,
        "dkim_key_id": private_key.key_id,
    }
    await connection.execute(insert(t.domains).values(to_row(domain) | secret_columns))
    await store_provisions(connection, [(None, domain)], domain.created_at)
    await _insert_transition(connection, actor, None, domain)


async def store_domain(connection: AsyncConnection, actor: str, before: Domain, after: Domain) -> None:
    """Update the columns of a domain that a rule can change, its transitions and its provisions.

    If it has become ready or has left that status, the propagation to its mailboxes starts again with the first one.
    """
    values = {
        "status": after.status,
        "updated_at": after.updated_at,
        "revision": after.revision,
        "provision_id": after.provision_id,
        "cause": after.cause,
        "token_absent_since": after.token_absent_since,
        "token_checked_at": after.token_checked_at,
        "released_at": after.released_at,
    }
    if (before.status is DomainStatus.READY) != (after.status is DomainStatus.READY):
        # All mailboxes of a deleting domain become deleting with it.
        propagating = after.status is not DomainStatus.DELETING
        values |= {"propagating": propagating, "propagated_created_at": None, "propagated_mailbox_id": None}
    elif after.status is DomainStatus.DELETING:
        values |= {"propagating": False}
    await connection.execute(update(t.domains).where(*row_filter(t.domains, after)).values(values))
    await store_provisions(connection, [(before, after)], after.updated_at)
    if mask := domain_session_end(before, after):
        await request_session_end(connection, after.organization_id, mask, after.updated_at)
    if after.status is not before.status:
        await _insert_transition(connection, actor, before, after)


async def remove_domain(connection: AsyncConnection, actor: str, domain: Domain, now: datetime) -> None:
    """Delete a deleting domain without mailboxes, whose row is locked; its transitions and provisions stay."""
    check_transition(DOMAIN_TRANSITIONS, DomainEvent.PURGED, domain.status, None)
    await connection.execute(delete(t.domains).where(*row_filter(t.domains, domain)))
    purge = _transition(domain, actor) | {
        "revision": domain.revision + 1,
        "from_status": domain.status,
        "to_status": None,
        "at": now,
        "cause": DomainEvent.PURGED,
    }
    await connection.execute(insert(t.domain_transitions).values(purge))


async def _insert_transition(connection: AsyncConnection, actor: str, before: Domain | None, after: Domain) -> None:
    transition = _transition(after, actor) | {"from_status": before.status if before else None}
    await connection.execute(insert(t.domain_transitions).values(transition))


def _transition(domain: Domain, actor: str) -> dict[str, object]:
    """Return the row of the transition that led to a domain's status, from its creation."""
    return to_row(
        DomainTransition(
            domain_id=domain.id,
            revision=domain.revision,
            organization_id=domain.organization_id,
            project_id=domain.project_id,
            name_hash=address_hash(domain.organization_id, domain.name),
            from_status=None,
            to_status=domain.status,
            at=domain.updated_at,
            cause=domain.cause,
            actor=actor,
        )
    )
