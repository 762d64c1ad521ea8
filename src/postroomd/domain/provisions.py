"""Provisions: the work that is requested of the mail platform."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from postroomd.domain.model import Alias, Domain, Forwarding, Mailbox


class ProvisionKind(StrEnum):
    """What a provision requests of the mail platform."""

    CREATE = "create"
    RESTORE = "restore"
    DELETE = "delete"
    UPDATE = "update"
    SUSPEND = "suspend"  # of a domain that has lost its name: it receives and sends no mail until it is restored


class ProvisionStatus(StrEnum):
    """The status of a provision."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    VOID = "void"  # superseded, or its resource was purged


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxState:
    """All that a mailbox is to be on the mail platform. A later `generation` supersedes an earlier one."""

    generation: int
    address: str
    login_allowed: bool
    sending_allowed: bool
    receiving_allowed: bool
    password_hash: str = field(repr=False)
    aliases: tuple[str, ...]
    forwardings: tuple[str, ...]
    forwarding_keep_copy: bool
    forwarding_enabled: bool
    storage_quota_bytes: int
    display_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """Work for the mail platform: on an alias if `alias_id` is set, on a forwarding if `forwarding_id` is, else on a
    mailbox, else on the domain itself.

    `attempts` counts the reported failures, `error` is the reason of the last one, and the next attempt is due at
    `next_attempt_at`. `address` is the subject's, for a forwarding that of its mailbox. `forwarding_email` is a
    forwarding's destination; `forwarding_keep_copy` and `forwarding_enabled` are its mailbox's settings.
    `mailbox_state` is that of a listed provision of a mailbox, unless it is to be deleted.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    mailbox_id: str | None
    alias_id: str | None
    forwarding_id: str | None
    kind: ProvisionKind
    requested_at: datetime
    next_attempt_at: datetime
    status: ProvisionStatus = ProvisionStatus.PENDING
    attempts: int = 0
    error: str | None = None
    settled_at: datetime | None = None
    address: str = ""
    forwarding_email: str = ""
    forwarding_keep_copy: bool = False
    forwarding_enabled: bool = False
    mailbox_state: MailboxState | None = None


_NAMESPACE = UUID("6f1d2a3e-52c5-4b0e-9a4a-0c3b8e6f7d21")


def provision_id(subject: Domain | Mailbox | Alias | Forwarding, kind: ProvisionKind) -> str:
    """Return the id of a provision of a resource's next revision.

    It is derived from them, so that a rule which is applied again requests the same provision.
    """
    return str(uuid5(_NAMESPACE, f"{subject.id}/{subject.revision}/{kind}"))
