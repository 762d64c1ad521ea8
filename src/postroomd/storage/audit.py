"""Recording of changes in the audit log, in the transaction of the change itself.

`Database.write` records the change of every transaction that a call or a command makes, so that no method can forget
it. The result of the transaction identifies what was changed: a resource of a type in RESOURCES, several mailboxes of
one domain, or Unchanged.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.audit import AuditedCall
from postroomd.domain.clock_leaps import ClockAcceptance
from postroomd.domain.context import WORKER, CallContext
from postroomd.domain.dkim import DkimKeys
from postroomd.domain.encryption import Reencryption
from postroomd.domain.model import Alias, Domain, Forwarding, Mailbox, MailboxForwarding
from postroomd.domain.payments import Payment
from postroomd.domain.provisions import Provision
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, Project, RotatedKey
from postroomd.storage import schema as t
from postroomd.storage.idempotency import Unchanged

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Identity:
    """The type of a resource, and the fields that identify it; None if it has no such field."""

    type: str
    id: str = "id"
    organization_id: str | None = "organization_id"
    project_id: str | None = "project_id"


RESOURCES: Mapping[type, _Identity] = {
    Organization: _Identity("organization", organization_id="id", project_id=None),
    Project: _Identity("project", project_id="id"),
    ApiKey: _Identity("api_key", id="access_key"),
    AdminKey: _Identity("admin_key", id="name", organization_id=None, project_id=None),
    ClockAcceptance: _Identity("clock", organization_id=None, project_id=None),
    Domain: _Identity("domain"),
    Reencryption: _Identity("secret_key", id="key_id", organization_id=None, project_id=None),
    DkimKeys: _Identity("domain", id="domain_id"),
    Mailbox: _Identity("mailbox"),
    Alias: _Identity("alias"),
    Forwarding: _Identity("forwarding"),
    MailboxForwarding: _Identity("mailbox_forwarding", id="mailbox_id"),
    Payment: _Identity("payment"),
    Provision: _Identity("provision"),
}
"""What a transaction can change, by the type of its result."""

_INSERT = insert(t.audit_events)


def audited(
    work: Callable[[AsyncConnection], Awaitable[Result]], context: CallContext | None, command: CallContext | None
) -> Callable[[AsyncConnection], Awaitable[Result]]:
    """Return the work of a transaction with the record of its change.

    `command` is the context of a process that runs one command; its changes are recorded without a call of their own.
    The work is returned as it is if neither is audited, as the worker's.
    """
    if context is WORKER:
        return work
    source = context if context is not None and context.audit is not None else command
    if source is None or (call := source.audit) is None:
        return work
    actor = source.actor

    async def perform(connection: AsyncConnection) -> Result:
        result = await work(connection)
        if not isinstance(result, Unchanged):
            await connection.execute(_INSERT, _row(actor, call, result))
        return result

    return perform


def _row(actor: str, call: AuditedCall, result: Any) -> dict[str, Any]:
    """Return the row of a change. Raises TypeError for a result that does not identify what was changed."""
    return {
        "id": str(uuid4()),
        "at": call.at,
        "actor": actor,
        "action": call.action,
        "arguments": call.arguments,
        "client_address": call.client_address,
        "request_id": call.request_id,
        **_changed(result),
    }


def _changed(result: Any) -> dict[str, Any]:
    if isinstance(result, list):
        first: Mailbox = result[0]
        return {
            "resource_type": "domain",
            "resource_id": first.domain_id,
            "resource_ids": tuple(each.id for each in result),
            "organization_id": first.organization_id,
            "project_id": first.project_id,
        }
    if isinstance(result, RotatedKey):
        return _changed(result.key) | {"resource_ids": (result.former.access_key, result.key.access_key)}
    identity = RESOURCES.get(type(result))
    if identity is None:
        raise TypeError(
            f"a transaction of an audited call returned {type(result).__name__}: return the resource that it changed,"
            " or Unchanged"
        )
    return {
        "resource_type": identity.type,
        "resource_id": str(getattr(result, identity.id)),
        "resource_ids": (),
        "organization_id": identity.organization_id and getattr(result, identity.organization_id),
        "project_id": identity.project_id and getattr(result, identity.project_id),
    }
