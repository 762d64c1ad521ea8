"""The context of one call: its actor, its scope, and its conditions.

A process's boundary creates a CallContext and passes it to every servicer and repository method as an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from postroomd.domain.audit import AuditedCall
from postroomd.domain.policy import DEFAULT_QUOTAS, Quotas
from postroomd.domain.tenancy import Scope


class Consistency(StrEnum):
    """The consistency of a list."""

    BOUNDED_STALENESS = "bounded_staleness"  # it may come from a replica, at most --replica-staleness-seconds behind
    STRONG = "strong"  # it comes from the primary


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """The idempotency key of a call, and the response that is stored under it with the call's effect.

    `digest` (32 octets) identifies the request. `encode` returns the octets of the response to a result, which are
    stored until `expires_at`. If `rereads`, a call that changed nothing stores no response: a repetition reads the
    resource.
    """

    key: str
    digest: bytes
    encode: Callable[[Any], bytes]
    now: datetime
    expires_at: datetime
    rereads: bool = False
    quotas: Quotas = DEFAULT_QUOTAS


class Replayed(Exception):
    """The call was committed earlier under its idempotency key; `response` is the first response, as octets.

    It is empty for a call that changed nothing and whose response can be read again.
    """

    def __init__(self, response: bytes) -> None:
        super().__init__("the call was committed earlier")
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """The context of one call.

    `tenant` is the scope of a tenant's call; None for the operator and the worker, who reach every tenant. `actor` is
    recorded in the history: `key:ACCESS_KEY`, `admin:NAME`, `command:USER` or `worker`. `default_project_id` is the
    project of a resource that is created without one. A transaction is not retried after `deadline`, an instant of the
    monotonic clock. With `audit`, its change is recorded in the audit log. `span` is the call's span, None unless
    tracing is on. `password_hashes`: the caller may send password hashes, or an operator receive them.
    """

    actor: str
    tenant: Scope | None = None
    default_project_id: str = ""
    deadline: float | None = None
    consistency: Consistency = Consistency.BOUNDED_STALENESS
    idempotency: Idempotency | None = None
    span: Any = None
    password_hashes: bool = False
    audit: AuditedCall | None = None

    @property
    def scope(self) -> Scope:
        """Return the scope of a tenant's call. Raises TypeError for a call of the operator or the worker."""
        if self.tenant is None:
            raise TypeError(f"the call of {self.actor} has no tenant scope")
        return self.tenant


WORKER = CallContext(actor="worker")
"""The context of the worker's steps."""
