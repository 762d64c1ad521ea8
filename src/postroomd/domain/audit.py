"""The audit log: who changed what, by which call. It holds no secrets, addresses or names, only ids.

Refused calls and calls that change nothing leave no event; refused ones are in the log of the service.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedCall:
    """A call, or a command, whose change is recorded in the audit log.

    `action` is the name of the RPC, such as `UpdateMailbox`, or of the command, such as `keys create`. `arguments` are
    the names of the request's fields that were set, without their values. `client_address` is an IP address, "" where
    there is none.
    """

    action: str
    at: datetime
    request_id: str = ""
    client_address: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One committed change of a tenant or the operator.

    `actor` is `key:ACCESS_KEY`, `admin:NAME` or `command:USER`. The organization and the project are those of what was
    changed; None if it belongs to none. `resource_ids` are the ids of all that a batch created; its `resource_id` is
    their domain.
    """

    id: str
    at: datetime
    actor: str
    action: str
    organization_id: str | None
    project_id: str | None
    resource_type: str
    resource_id: str
    resource_ids: tuple[str, ...]
    arguments: tuple[str, ...]
    client_address: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """A list of audit events. A filter that is None matches everything; `since` is included, `until` is not."""

    organization_id: str | None = None
    project_id: str | None = None
    actor: str | None = None
    resource_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
