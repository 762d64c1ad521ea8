"""The rules of forwardings and of their settings, and the table of their transitions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from postroomd.domain.addresses import Address
from postroomd.domain.aliases import ALIASES_ALLOWED
from postroomd.domain.destinations import is_same_destination, local_address
from postroomd.domain.errors import (
    InvalidArguments,
    NameTaken,
    Precondition,
    PreconditionFailed,
    QuotaExceeded,
    Reason,
    ResourceName,
    Taken,
    TransientState,
    Violation,
)
from postroomd.domain.events import ForwardingEvent as Event
from postroomd.domain.model import Alias, DomainStatus, Forwarding, Mailbox, MailboxForwarding, MailboxStatus
from postroomd.domain.model import ForwardingStatus as F
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.transitions import TransitionTable, check_transition

FORWARDING_TRANSITIONS: TransitionTable[Event, F] = {
    Event.CREATE: {None: frozenset({F.PROVISIONING, F.READY})},
    Event.UPDATE: {F.READY: frozenset({F.UPDATING})},
    Event.PROVISIONED: dict.fromkeys((F.PROVISIONING, F.UPDATING), frozenset({F.READY})),
    Event.DELETE: dict.fromkeys((F.PROVISIONING, F.READY, F.UPDATING), frozenset({F.DELETING})),
    Event.DOMAIN_DELETED: dict.fromkeys((F.PROVISIONING, F.READY, F.UPDATING), frozenset({F.DELETING})),
    Event.PURGED: {F.DELETING: frozenset({None})},
}
"""The transitions of forwardings."""

MAX_FORWARDINGS = 5
"""Maximum number of forwardings of a mailbox, those included that the mail platform has yet to delete."""

OWN_ADDRESS = "must not be the mailbox's own address: mail would loop"
OWN_ALIAS = "must not be an alias of the mailbox: mail would loop"

FORWARDINGS_ALLOWED = ALIASES_ALLOWED
"""The statuses of a mailbox in which forwardings of it can be created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingSource:
    """A mailbox, all its forwardings, and the alias of it that would receive the mail to a new destination, if any."""

    mailbox: Mailbox
    forwardings: Sequence[Forwarding]
    alias: Alias | None = None


def new_forwarding(
    source: ForwardingSource, *, forwarding_id: str, destination: str, policy: LifecyclePolicy, now: datetime
) -> Forwarding:
    """Return a new forwarding of the source's mailbox to a canonical destination.

    Raises PreconditionFailed if the mailbox's status admits none, InvalidArguments for a destination that is an address
    of the mailbox, NameTaken for one that it forwards to already, QuotaExceeded for more than MAX_FORWARDINGS.
    """
    mailbox = source.mailbox
    if mailbox.status not in FORWARDINGS_ALLOWED:
        allowed = ", ".join(sorted(FORWARDINGS_ALLOWED))
        raise PreconditionFailed(
            ResourceName("mailbox", mailbox.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"the mailbox is {mailbox.status}: forwardings can be created while it is {allowed}",
        )
    _require_free_destination(source, destination)
    if len(source.forwardings) >= MAX_FORWARDINGS:
        deleting = sum(each.status is F.DELETING for each in source.forwardings)
        raise QuotaExceeded(
            "forwardings",
            MAX_FORWARDINGS,
            len(source.forwardings),
            ResourceName("mailbox", mailbox.id),
            deleting,
            remedy="delete one first, or change its destination",
        )
    status = F.PROVISIONING if policy.provisioning else F.READY
    check_transition(FORWARDING_TRANSITIONS, Event.CREATE, None, status)
    return Forwarding(
        id=forwarding_id,
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        domain_id=mailbox.domain_id,
        mailbox_id=mailbox.id,
        email=destination,
        status=status,
        created_at=now,
        updated_at=now,
    )


def redirect_forwarding(
    forwarding: Forwarding, source: ForwardingSource, *, destination: str | None, policy: LifecyclePolicy, now: datetime
) -> Forwarding:
    """Return the forwarding with another canonical destination; unchanged for None or the same one.

    Raises TransientState while it or its mailbox is deleting, PreconditionFailed while the mailbox's deletion is
    scheduled, InvalidArguments and NameTaken for a destination as `new_forwarding` does.
    """
    if destination is None or destination == forwarding.email:
        return forwarding
    if forwarding.status is F.DELETING:
        raise TransientState(ResourceName("forwarding", forwarding.id), forwarding.status)
    _require_changeable(source.mailbox)
    others = [each for each in source.forwardings if each.id != forwarding.id]
    _require_free_destination(replace(source, forwardings=others), destination)
    return replace(_request_update(forwarding, policy), email=destination, updated_at=now)


def request_forwarding(forwarding: Forwarding, domain_status: DomainStatus) -> Forwarding:
    """Return the forwarding with its creation requested of the mail platform, once its domain is ready.

    Unchanged if it is requested already, or if there is no mail platform to create it.
    """
    wanted = forwarding.status is F.PROVISIONING and forwarding.provision_id is None
    if not wanted or domain_status is not DomainStatus.READY:
        return forwarding
    return replace(forwarding, provision_id=provision_id(forwarding, ProvisionKind.CREATE))


def delete_forwarding(forwarding: Forwarding, policy: LifecyclePolicy, now: datetime) -> Forwarding:
    """Return the forwarding as deleting. Without a `provision_id` it can be removed at once: the platform has none."""
    if forwarding.status is F.DELETING:
        return forwarding
    check_transition(FORWARDING_TRANSITIONS, Event.DELETE, forwarding.status, F.DELETING)
    known = forwarding.status is not F.PROVISIONING or forwarding.provision_id is not None
    provision = provision_id(forwarding, ProvisionKind.DELETE) if policy.provisioning and known else None
    return replace(forwarding, status=F.DELETING, provision_id=provision, updated_at=now)


# --- Settings ---------------------------------------------------------------------------------------------------------


def default_settings(mailbox: Mailbox) -> MailboxForwarding:
    """Return the settings of a mailbox's forwardings as they are until they are changed for the first time."""
    return MailboxForwarding(
        mailbox_id=mailbox.id,
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        keep_copy=True,
        enabled=True,
        created_at=mailbox.created_at,
        updated_at=mailbox.created_at,
    )


def change_settings(
    settings: MailboxForwarding, mailbox: Mailbox, *, keep_copy: bool | None, enabled: bool | None, now: datetime
) -> MailboxForwarding:
    """Return the settings with those changed that are not None; unchanged if none differs.

    Raises TransientState while the mailbox is deleting, PreconditionFailed while its deletion is scheduled.
    """
    wanted = (
        settings.keep_copy if keep_copy is None else keep_copy,
        settings.enabled if enabled is None else enabled,
    )
    if wanted == (settings.keep_copy, settings.enabled):
        return settings
    _require_changeable(mailbox)
    return replace(settings, keep_copy=wanted[0], enabled=wanted[1], updated_at=now)


def apply_settings(forwarding: Forwarding, policy: LifecyclePolicy, now: datetime) -> Forwarding:
    """Return a forwarding whose mailbox's settings have changed, with the change requested of the mail platform.

    Unchanged if there is no mail platform, or none that knows the forwarding and keeps it.
    """
    if forwarding.status is F.DELETING:
        return forwarding
    requested = _request_update(forwarding, policy)
    return replace(requested, updated_at=now) if requested.status is not forwarding.status else requested


def _request_update(forwarding: Forwarding, policy: LifecyclePolicy) -> Forwarding:
    """Return the forwarding with its change requested of the mail platform, in place of what was requested before.

    Unchanged if nothing has to be requested: the platform was never asked to provision the forwarding, or there is no
    platform.
    """
    status = F.UPDATING if forwarding.status is F.READY else forwarding.status
    if status is not forwarding.status:
        if not policy.provisioning:
            return forwarding
        check_transition(FORWARDING_TRANSITIONS, Event.UPDATE, forwarding.status, status)
    elif forwarding.provision_id is None:
        return forwarding
    # A new provision even if one of the same kind is pending: the platform may have read the former state already, and
    # a confirmation of that must not pass for this one. The creation was requested with the first revision.
    kind = ProvisionKind.CREATE if status is F.PROVISIONING else ProvisionKind.UPDATE
    created = replace(forwarding, revision=forwarding.revision + 1)
    return replace(forwarding, status=status, provision_id=provision_id(created, kind))


# --- Destinations -----------------------------------------------------------------------------------------------------


def require_no_forwarding(alias: Alias, forwardings: Sequence[Forwarding]) -> None:
    """Raise NameTaken if a forwarding of the alias's mailbox has the alias as its destination: mail would loop."""
    taken = [each for each in forwardings if local_address(each.email) == alias.email]
    if taken:
        raise NameTaken([_taken("local_part", each) for each in taken])


def looping(address: Address, aliases: Iterable[str], destinations: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the destinations that are a mailbox's own addresses, and why they are refused.

    `aliases` are local parts in its domain; that of a catch-all is empty.
    """
    reasons = {str(Address(alias, address.domain_name)): OWN_ALIAS for alias in aliases if alias}
    reasons[str(address)] = OWN_ADDRESS
    for destination in destinations:
        if (reason := reasons.get(local_address(destination))) is not None:
            yield destination, reason


def _require_free_destination(source: ForwardingSource, destination: str) -> None:
    if local_address(destination) == source.mailbox.email:
        raise InvalidArguments([Violation("email", Reason.CONSTRAINT, OWN_ADDRESS)])
    if source.alias is not None:
        raise InvalidArguments([Violation("email", Reason.CONSTRAINT, OWN_ALIAS)])
    taken = [each for each in source.forwardings if is_same_destination(each.email, destination)]
    if taken:
        raise NameTaken([_taken("email", each) for each in taken])


def _taken(field: str, forwarding: Forwarding) -> Taken:
    return Taken(
        field=field,
        name=forwarding.email,
        resource_type="forwarding",
        resource_id=forwarding.id,
        status=forwarding.status,
    )


def _require_changeable(mailbox: Mailbox) -> None:
    """Raise TransientState or PreconditionFailed if the mailbox's forwardings can't be changed."""
    if mailbox.status is MailboxStatus.DELETING:
        raise TransientState(ResourceName("mailbox", mailbox.id), mailbox.status)
    if mailbox.status is MailboxStatus.DELETION_SCHEDULED:
        raise PreconditionFailed(
            ResourceName("mailbox", mailbox.id),
            Precondition.UNKNOWN_PRECONDITION,
            "forwardings can't be changed while the mailbox is deletion_scheduled: restore it first",
        )
