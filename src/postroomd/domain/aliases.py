"""The rules of aliases, and the table of their transitions."""

from dataclasses import replace
from datetime import datetime

from postroomd.domain.addresses import ADDRESS_TOO_LONG, Address
from postroomd.domain.errors import (
    InvalidArguments,
    Precondition,
    PreconditionFailed,
    Reason,
    ResourceName,
    Violation,
)
from postroomd.domain.events import AliasEvent as Event
from postroomd.domain.model import Alias, DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.model import AliasStatus as A
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.transitions import TransitionTable, check_transition

ALIAS_TRANSITIONS: TransitionTable[Event, A] = {
    Event.CREATE: {None: frozenset({A.PROVISIONING, A.READY})},
    Event.PROVISIONED: {A.PROVISIONING: frozenset({A.READY})},
    Event.DELETE: dict.fromkeys((A.PROVISIONING, A.READY), frozenset({A.DELETING})),
    Event.DOMAIN_DELETED: dict.fromkeys((A.PROVISIONING, A.READY), frozenset({A.DELETING})),
    Event.PURGED: {A.DELETING: frozenset({None})},
}
"""The transitions of aliases."""

ALIASES_ALLOWED = frozenset(
    {
        MailboxStatus.READY,
        MailboxStatus.LOCKED,
        MailboxStatus.WAITING_DOMAIN,
        MailboxStatus.WAITING_PAYMENT,
        MailboxStatus.CREATING,
    }
)
"""The statuses of a mailbox in which aliases of it can be created."""


def require_aliases_allowed(mailbox: Mailbox) -> None:
    """Raise PreconditionFailed if no alias of the mailbox can be created."""
    if mailbox.status not in ALIASES_ALLOWED:
        allowed = ", ".join(sorted(ALIASES_ALLOWED))
        raise PreconditionFailed(
            ResourceName("mailbox", mailbox.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"the mailbox is {mailbox.status}: aliases can be created while it is {allowed}",
        )


def new_alias(
    mailbox: Mailbox, *, alias_id: str, local_part: str, description: str, policy: LifecyclePolicy, now: datetime
) -> Alias:
    """Return a new alias of the mailbox. Raises as `require_aliases_allowed`, and InvalidArguments for the local part.

    The local part is canonical, and empty for a catch-all; with the domain name it may be too long for an address.
    """
    require_aliases_allowed(mailbox)
    address = Address(local_part, mailbox.address.domain_name)
    if address.is_too_long:
        raise InvalidArguments([Violation("local_part", Reason.CONSTRAINT, ADDRESS_TOO_LONG)])
    status = A.PROVISIONING if policy.provisioning else A.READY
    check_transition(ALIAS_TRANSITIONS, Event.CREATE, None, status)
    return Alias(
        id=alias_id,
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        domain_id=mailbox.domain_id,
        mailbox_id=mailbox.id,
        email=str(address),
        description=description,
        status=status,
        created_at=now,
        updated_at=now,
    )


def describe_alias(alias: Alias, *, description: str | None, now: datetime) -> Alias:
    """Return the alias with another description; unchanged for None or the same one."""
    if description is None or description == alias.description:
        return alias
    return replace(alias, description=description, updated_at=now)


def request_alias(alias: Alias, domain_status: DomainStatus) -> Alias:
    """Return the alias with its creation requested of the mail platform, once its domain is ready.

    Unchanged if it is requested already, or if there is no mail platform to create it.
    """
    wanted = alias.status is A.PROVISIONING and alias.provision_id is None
    if not wanted or domain_status is not DomainStatus.READY:
        return alias
    return replace(alias, provision_id=provision_id(alias, ProvisionKind.CREATE))


def delete_alias(alias: Alias, policy: LifecyclePolicy, now: datetime) -> Alias:
    """Return the alias as deleting. Without a `provision_id` it can be removed at once: the mail platform has none."""
    if alias.status is A.DELETING:
        return alias
    check_transition(ALIAS_TRANSITIONS, Event.DELETE, alias.status, A.DELETING)
    known = alias.status is A.READY or alias.provision_id is not None
    provision = provision_id(alias, ProvisionKind.DELETE) if policy.provisioning and known else None
    return replace(alias, status=A.DELETING, provision_id=provision, updated_at=now)
