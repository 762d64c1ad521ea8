"""The context of one call: who makes it, what it can reach, and under which conditions.

The boundary of a process makes a CallContext, and passes it to every servicer and repository method as an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from postroomd.domain.tenancy import Scope


class Consistency(StrEnum):
    """How recent the rows of a list are."""

    BOUNDED_STALENESS = "bounded_staleness"  # a read replica may serve it, up to --replica-staleness-seconds behind
    STRONG = "strong"  # the primary serves it


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """The idempotency key of a call, and what is stored under it with the call's effect.

    `digest` (32 octets) identifies the request. `encode` returns the octets of the response to a result; they are kept
    until `expires_at`.
    """

    key: str
    digest: bytes
    encode: Callable[[Any], bytes]
    now: datetime
    expires_at: datetime


class Replayed(Exception):
    """The call was committed before under its idempotency key; `response` holds the octets of the first response."""

    def __init__(self, response: bytes) -> None:
        super().__init__("the call was committed before")
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """The context of one call.

    `tenant` is what a tenant's call can reach; None for the operator and the worker, who reach every tenant. `actor` is
    recorded in the history: `key:ACCESS_KEY`, `admin:NAME` or `worker`. `default_project_id` is the project of what is
    created without naming one. A transaction is not retried after `deadline`, an instant of the monotonic clock.
    """

    actor: str
    tenant: Scope | None = None
    default_project_id: str = ""
    deadline: float | None = None
    consistency: Consistency = Consistency.BOUNDED_STALENESS
    idempotency: Idempotency | None = None

    @property
    def scope(self) -> Scope:
        """What the tenant's call can reach. Raises TypeError for a call that is no tenant's."""
        if self.tenant is None:
            raise TypeError(f"the call of {self.actor} has no tenant")
        return self.tenant


WORKER = CallContext(actor="worker")
"""The context of the worker's own steps."""
