"""The rules of provisioning: what is requested of the mail platform, and the effects of its confirmations and failures.

A confirmation changes a resource's standing with the platform, whatever its status is. A failure changes the provision
only, which the platform attempts again later.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

from postroomd.domain.aliases import ALIAS_TRANSITIONS
from postroomd.domain.backoff import backoff_delay
from postroomd.domain.domains import move_domain
from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName
from postroomd.domain.events import AliasEvent, DomainEvent, ForwardingEvent, MailboxEvent, ProvisionStanding
from postroomd.domain.forwardings import FORWARDING_TRANSITIONS
from postroomd.domain.mailbox_status import move_mailbox
from postroomd.domain.model import Alias, AliasStatus, Domain, DomainStatus, Forwarding, ForwardingStatus, Mailbox
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import Provision, ProvisionKind, ProvisionStatus
from postroomd.domain.transitions import check_transition

FIRST_RETRY, MAX_RETRY = timedelta(minutes=1), timedelta(hours=6)

Subject: TypeAlias = Domain | Mailbox | Alias | Forwarding
"""A resource that the mail platform provisions."""


def needs_deprovisioning(mailbox: Mailbox, policy: LifecyclePolicy) -> bool:
    """Return whether the mail platform has to delete the mailbox first: it has been requested to create it."""
    unknown = mailbox.provision is ProvisionStanding.CREATE_AWAITED and mailbox.provision_id is None
    return policy.provisioning and not unknown


def request_purge(mailbox: Mailbox, now: datetime) -> Mailbox:
    """Return the mailbox whose purge is due with its deletion requested of the mail platform."""
    changes = {"purging": True, "provision": ProvisionStanding.DELETE_AWAITED, "provision_id": None}
    return move_mailbox(mailbox, MailboxEvent.PURGE_DUE, DomainStatus.READY, now, **changes)


def pending_provision(subject: Subject, requested_at: datetime) -> Provision | None:
    """Return the provision that a resource waits for, as it is when it has just been requested; None if it has none."""
    if subject.provision_id is None:
        return None
    alias_id, forwarding_id, mailbox_id = None, None, None
    match subject:
        case Domain():
            domain_id = subject.id
        case Mailbox():
            domain_id, mailbox_id = subject.domain_id, subject.id
        case Alias():
            domain_id, mailbox_id, alias_id = subject.domain_id, subject.mailbox_id, subject.id
        case Forwarding():
            domain_id, mailbox_id, forwarding_id = subject.domain_id, subject.mailbox_id, subject.id
    return Provision(
        id=subject.provision_id,
        organization_id=subject.organization_id,
        project_id=subject.project_id,
        domain_id=domain_id,
        mailbox_id=mailbox_id,
        alias_id=alias_id,
        forwarding_id=forwarding_id,
        kind=_kind(subject),
        requested_at=requested_at,
        next_attempt_at=requested_at,
    )


def confirm_provision(
    provision: Provision, subject: Subject | None, domain_status: DomainStatus, *, now: datetime
) -> tuple[Provision, Subject | None]:
    """Return the provision as confirmed, and its resource afterwards; None for one that is to be removed, or is gone.

    A provision that the resource does not wait for any more has no effect on it. Raises PreconditionFailed for a void
    provision.
    """
    if provision.status is ProvisionStatus.CONFIRMED:
        return provision, subject
    _require_pending(provision)
    confirmed = replace(provision, status=ProvisionStatus.CONFIRMED, settled_at=now)
    if subject is None or subject.provision_id != provision.id:
        return confirmed, subject
    if provision.kind is ProvisionKind.DELETE:
        return confirmed, None
    if isinstance(subject, Mailbox):
        changes = {"provision": ProvisionStanding.PROVIDED, "provision_id": None}
        return confirmed, move_mailbox(subject, MailboxEvent.PROVISIONED, domain_status, now, **changes)
    if isinstance(subject, Domain):
        return confirmed, replace(move_domain(subject, DomainEvent.PROVISIONED, now), provision_id=None)
    if subject.status in {AliasStatus.DELETING, ForwardingStatus.DELETING}:
        return confirmed, replace(subject, provision_id=None)  # with its domain: it is deprovisioned with its mailbox
    if isinstance(subject, Forwarding):
        check_transition(FORWARDING_TRANSITIONS, ForwardingEvent.PROVISIONED, subject.status, ForwardingStatus.READY)
        return confirmed, replace(subject, status=ForwardingStatus.READY, provision_id=None, updated_at=now)
    check_transition(ALIAS_TRANSITIONS, AliasEvent.PROVISIONED, subject.status, AliasStatus.READY)
    return confirmed, replace(subject, status=AliasStatus.READY, provision_id=None, updated_at=now)


def fail_provision(
    provision: Provision, subject: Subject | None, domain_status: DomainStatus, *, reason: str, now: datetime
) -> tuple[Provision, Subject | None]:
    """Return the provision with its next attempt after a backoff, and its resource unchanged.

    A failure that is reported before the next attempt is due repeats the last one and changes nothing. Raises
    PreconditionFailed for a provision that is confirmed or void.
    """
    _require_pending(provision)
    if provision.attempts and now < provision.next_attempt_at:
        return provision, subject
    delay = backoff_delay(provision.attempts, FIRST_RETRY, MAX_RETRY)
    failed = replace(provision, attempts=provision.attempts + 1, error=reason, next_attempt_at=now + delay)
    return failed, subject


def _kind(subject: Subject) -> ProvisionKind:
    match subject:
        case Mailbox():
            return _KINDS[subject.provision]
        case (
            Domain(status=DomainStatus.DELETING)
            | Alias(status=AliasStatus.DELETING)
            | Forwarding(status=ForwardingStatus.DELETING)
        ):
            return ProvisionKind.DELETE
        case Domain(status=DomainStatus.PROVISIONING):  # again, since the first time it has no provision
            return ProvisionKind.RESTORE
        case Domain(released_at=datetime()):
            return ProvisionKind.SUSPEND
        case Forwarding(status=ForwardingStatus.UPDATING):
            return ProvisionKind.UPDATE
        case _:
            return ProvisionKind.CREATE


_KINDS = {
    ProvisionStanding.PROVIDED: ProvisionKind.UPDATE,
    ProvisionStanding.CREATE_AWAITED: ProvisionKind.CREATE,
    ProvisionStanding.RESTORE_AWAITED: ProvisionKind.RESTORE,
    ProvisionStanding.DELETE_AWAITED: ProvisionKind.DELETE,
}


def _require_pending(provision: Provision) -> None:
    if provision.status is not ProvisionStatus.PENDING:
        raise PreconditionFailed(
            ResourceName("provision", provision.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"the provision is {provision.status}: its status is final",
        )
