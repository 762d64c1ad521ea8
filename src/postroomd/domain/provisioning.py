"""What the mail platform is asked for, and what comes of its answers.

A confirmation changes what the platform has of a mailbox, whatever else is the matter with that meanwhile. A failure
changes nothing but the work itself, which is to be tried again.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

from postroomd.domain.domains import move_domain
from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName
from postroomd.domain.events import AliasEvent, DomainEvent, MailboxEvent, ProvisionStanding
from postroomd.domain.mailbox_status import move_mailbox
from postroomd.domain.model import Alias, AliasStatus, Domain, DomainStatus, Mailbox
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import Provision, ProvisionKind, ProvisionStatus, provision_id
from postroomd.domain.transitions import ALIAS_TRANSITIONS, check_transition

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=6)

Subject: TypeAlias = Domain | Mailbox | Alias
"""What the mail platform works on."""


def is_off_platform(mailbox: Mailbox, policy: LifecyclePolicy) -> bool:
    """Whether the mail platform has nothing of a mailbox, and has never been asked for it."""
    never_asked = mailbox.provision is ProvisionStanding.CREATE_AWAITED and mailbox.provision_id is None
    return never_asked or not policy.provisioning


def purge_on_platform(mailbox: Mailbox, now: datetime) -> Mailbox:
    """The mailbox whose purge is due, to go once the mail platform has deleted it."""
    facts = {"purging": True, "provision": ProvisionStanding.DELETE_AWAITED, "provision_id": None}
    return move_mailbox(mailbox, MailboxEvent.PURGE_DUE, DomainStatus.READY, now, **facts)


def awaited_provision(subject: Subject, requested_at: datetime) -> Provision | None:
    """The work that the mail platform has been asked for on a subject, as it is when it has just been asked for."""
    if subject.provision_id is None:
        return None
    is_domain, alias = isinstance(subject, Domain), isinstance(subject, Alias)
    return Provision(
        id=subject.provision_id,
        organization_id=subject.organization_id,
        project_id=subject.project_id,
        domain_id=subject.id if isinstance(subject, Domain) else subject.domain_id,
        mailbox_id=None if is_domain else subject.mailbox_id if isinstance(subject, Alias) else subject.id,
        alias_id=subject.id if alias else None,
        kind=_kind(subject),
        requested_at=requested_at,
        next_attempt_at=requested_at,
    )


def confirm_provision(
    provision: Provision, subject: Subject | None, domain_status: DomainStatus, *, now: datetime
) -> tuple[Provision, Subject | None]:
    """The work done, and what it was about as it is then; None where that goes, or is gone already.

    Raises PreconditionFailed for one that is void.
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
        facts = {"provision": ProvisionStanding.PROVIDED, "provision_id": None}
        return confirmed, move_mailbox(subject, MailboxEvent.PROVISIONED, domain_status, now, **facts)
    if isinstance(subject, Domain):
        return confirmed, replace(move_domain(subject, DomainEvent.CREATED, now), provision_id=None)
    if subject.status is AliasStatus.DELETING:  # with its domain, by way of its mailbox
        return confirmed, replace(subject, provision_id=None)
    check_transition(ALIAS_TRANSITIONS, AliasEvent.PROVISIONED, subject.status, AliasStatus.READY)
    return confirmed, replace(subject, status=AliasStatus.READY, provision_id=None, updated_at=now)


def fail_provision(
    provision: Provision, subject: Subject | None, domain_status: DomainStatus, *, reason: str, now: datetime
) -> tuple[Provision, Subject | None]:
    """The work to be tried again later: what it is about stays as it is.

    A failure that is reported before the next attempt is due is the one that is known already. Raises
    PreconditionFailed for work that is confirmed or void.
    """
    _require_pending(provision)
    if provision.attempts and now < provision.next_attempt_at:
        return provision, subject
    wait = min(FIRST_RETRY * (1 << min(provision.attempts, 16)), LAST_RETRY)
    failed = replace(provision, attempts=provision.attempts + 1, error=reason, next_attempt_at=now + wait)
    return failed, subject


def create_domain_on_platform(domain: Domain) -> Domain:
    """A new domain, to wait for its validation once the mail platform has it."""
    return replace(domain, status=DomainStatus.CREATING, provision_id=provision_id(domain, ProvisionKind.CREATE))


def delete_domain_on_platform(domain: Domain, policy: LifecyclePolicy) -> Domain | None:
    """A deleting domain without mailboxes, with its deletion asked of the mail platform; None to remove it."""
    if not policy.provisioning:
        return None
    if domain.provision_id is not None:
        return domain
    return replace(domain, provision_id=provision_id(domain, ProvisionKind.DELETE))


def _kind(subject: Subject) -> ProvisionKind:
    if isinstance(subject, Mailbox):
        return _KINDS[subject.provision]
    deleting = subject.status.value == AliasStatus.DELETING.value
    return ProvisionKind.DELETE if deleting else ProvisionKind.CREATE


_KINDS = {
    ProvisionStanding.CREATE_AWAITED: ProvisionKind.CREATE,
    ProvisionStanding.RESTORE_AWAITED: ProvisionKind.RESTORE,
    ProvisionStanding.DELETE_AWAITED: ProvisionKind.DELETE,
}


def _require_pending(provision: Provision) -> None:
    if provision.status is not ProvisionStatus.PENDING:
        raise PreconditionFailed(
            ResourceName("provision", provision.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"the work is {provision.status}: that stays",
        )
