"""Provisions: work for the mail platform, as it is requested and settled."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from postroomd.domain.model import Alias, Domain, Mailbox


class ProvisionKind(StrEnum):
    """What the mail platform is to do."""

    CREATE = "create"
    RESTORE = "restore"
    DELETE = "delete"


class ProvisionStatus(StrEnum):
    """Where a piece of the mail platform's work stands."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    VOID = "void"  # nobody waits for it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """Work for the mail platform: on an alias where `alias_id` is set, else a mailbox, else the domain itself.

    `attempts` counts reported failures, `error` is the last one's reason, and it is to be tried again from
    `next_attempt_at` on.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    mailbox_id: str | None
    alias_id: str | None
    kind: ProvisionKind
    requested_at: datetime
    next_attempt_at: datetime
    status: ProvisionStatus = ProvisionStatus.PENDING
    attempts: int = 0
    error: str | None = None
    settled_at: datetime | None = None
    address: str = ""


_PROVISIONS = UUID("6f1d2a3e-52c5-4b0e-9a4a-0c3b8e6f7d21")


def provision_id(subject: Domain | Mailbox | Alias, kind: ProvisionKind) -> str:
    """The id of work on a subject, asked for with its next revision: one alone, however often the rule is applied."""
    return str(uuid5(_PROVISIONS, f"{subject.id}/{subject.revision}/{kind}"))
