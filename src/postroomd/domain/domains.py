"""The rules of domains, and the table of their transitions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.events import DomainEvent as Event
from postroomd.domain.model import Domain, DomainRecord, RecordStatus
from postroomd.domain.model import DomainStatus as D
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.records import MailHosts, plan_records
from postroomd.domain.transitions import TransitionTable, check_transition

DOMAIN_TRANSITIONS: TransitionTable[Event, D] = {
    Event.CREATE: {None: frozenset({D.CREATING, D.WAITING_VALIDATION})},
    Event.PROVISIONED: {D.CREATING: frozenset({D.WAITING_VALIDATION})},
    Event.VALIDATE: dict.fromkeys((D.WAITING_VALIDATION, D.VALIDATION_FAILED), frozenset({D.VALIDATING})),
    Event.RECORDS_VALID: {D.VALIDATING: frozenset({D.PROVISIONING})},
    Event.RECORDS_MISSING: {D.VALIDATING: frozenset({D.WAITING_VALIDATION})},
    Event.RECORDS_INVALID: {D.VALIDATING: frozenset({D.VALIDATION_FAILED})},
    Event.ACTIVATE: {D.PROVISIONING: frozenset({D.READY})},
    Event.OWNERSHIP_LOST: dict.fromkeys((D.PROVISIONING, D.READY), frozenset({D.WAITING_VALIDATION})),
    Event.OWNERSHIP_RESTORED: dict.fromkeys((D.WAITING_VALIDATION, D.VALIDATION_FAILED), frozenset({D.PROVISIONING})),
    Event.DELETE: {status: frozenset({D.DELETING}) for status in D if status is not D.DELETING},
    Event.PURGED: {D.DELETING: frozenset({None})},
}
"""The transitions of domains. Of an existing domain, each event leads to one status."""

MIN_VALIDATION_INTERVAL = timedelta(seconds=5)  # of one domain: a caller may request validations in a loop


def new_domain(
    *, domain_id: str, organization_id: str, project_id: str, name: str, policy: LifecyclePolicy, now: datetime
) -> Domain:
    """Return a new domain, to be validated; the mail platform creates it first, if there is one."""
    domain = Domain(
        id=domain_id,
        organization_id=organization_id,
        project_id=project_id,
        name=name,
        status=D.CREATING if policy.provisioning else D.WAITING_VALIDATION,
        mailbox_total_count=0,
        created_at=now,
        updated_at=now,
    )
    check_transition(DOMAIN_TRANSITIONS, Event.CREATE, None, domain.status)
    if policy.provisioning:
        return replace(domain, provision_id=provision_id(domain, ProvisionKind.CREATE))
    return domain


def new_records(
    domain: Domain, hosts: MailHosts, *, token: str, dkim_selector: str, dkim_key: str, new_id: Callable[[], str]
) -> list[DomainRecord]:
    """Return the DNS records of a new domain, from the arguments of `plan_records`."""
    plans = plan_records(domain.name, hosts, token=token, dkim_selector=dkim_selector, dkim_key=dkim_key)
    return [
        DomainRecord(
            id=new_id(),
            domain_id=domain.id,
            kind=plan.kind,
            status=RecordStatus.UNKNOWN_STATUS,
            level=plan.level,
            dns_type=plan.dns_type,
            dns_name=plan.dns_name,
            dns_value=plan.dns_value,
            error=None,
            created_at=domain.created_at,
            updated_at=domain.created_at,
        )
        for plan in plans
    ]


def move_domain(domain: Domain, event: Event, now: datetime) -> Domain:
    """Return the domain after an event; the same domain if the event is no transition of its status."""
    status = next(iter(DOMAIN_TRANSITIONS[event].get(domain.status, ())), None)
    return replace(domain, status=status, cause=event, updated_at=now) if status else domain


def begin_validation(domain: Domain, now: datetime) -> Domain:
    """Return the domain with a lookup of its records requested; a validating or ready domain is unchanged.

    Raises TransientState while the domain is creating, provisioning or deleting.
    """
    validating = move_domain(domain, Event.VALIDATE, now)
    if validating is domain and domain.status not in {D.VALIDATING, D.READY}:
        raise TransientState(ResourceName("domain", domain.id), domain.status)
    return validating


def delete_domain(domain: Domain, mailboxes_in_use: int, *, force: bool, now: datetime) -> Domain:
    """Return the domain as deleting, without a pending provision; unchanged if it is deleting already.

    `mailboxes_in_use` is the number of its mailboxes that are neither deletion_scheduled nor deleting. Raises
    PreconditionFailed if there are any, except with `force`.
    """
    deleted = move_domain(domain, Event.DELETE, now)
    if deleted is domain:
        return domain
    if mailboxes_in_use and not force:
        count, them = ("1 mailbox", "it") if mailboxes_in_use == 1 else (f"{mailboxes_in_use} mailboxes", "them")
        raise PreconditionFailed(
            ResourceName("domain", domain.id),
            Precondition.RESOURCE_STILL_IN_USE,
            f"{domain.name} has {count} not scheduled for deletion: delete {them} first, or delete the domain with"
            " force=true, which deletes all its mailboxes at once and can't be undone",
        )
    return replace(deleted, provision_id=None)


def purge_domain(domain: Domain, policy: LifecyclePolicy) -> Domain | None:
    """Return a deleting domain, which has no mailboxes left, with its deletion requested of the mail platform.

    None if it can be removed: there is no mail platform.
    """
    if not policy.provisioning:
        return None
    if domain.provision_id is not None:
        return domain
    return replace(domain, provision_id=provision_id(domain, ProvisionKind.DELETE))


def require_mailboxes_allowed(domain: Domain) -> None:
    """Raise PreconditionFailed if no mailbox can be created in the domain."""
    if domain.status is D.DELETING:
        obstacle = "the domain is being deleted: create mailboxes in another domain"
    elif domain.token_absent_since is not None:
        obstacle = (
            "the validation token of the domain is no longer in its DNS: publish the domain_validation record again,"
            " and request a validation"
        )
    else:
        return
    raise PreconditionFailed(ResourceName("domain", domain.id), Precondition.UNKNOWN_PRECONDITION, obstacle)
