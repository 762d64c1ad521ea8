"""The rules of provisioning: requests, confirmations, failures."""

from dataclasses import replace
from datetime import timedelta

import pytest

from postroomd.domain.aliases import delete_alias, new_alias, request_alias
from postroomd.domain.domains import delete_domain, purge_domain
from postroomd.domain.errors import PreconditionFailed
from postroomd.domain.events import DomainEvent, MailboxEvent, ProvisionStanding
from postroomd.domain.mailboxes import (
    advance_mailbox,
    delete_mailbox,
    follow_domain,
    lock_mailbox,
    new_mailbox,
    purge_with_domain,
    restore_mailbox,
)
from postroomd.domain.model import AliasStatus, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import confirm_payment, pending_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import (
    FIRST_RETRY,
    MAX_RETRY,
    Subject,
    confirm_provision,
    fail_provision,
    pending_provision,
    request_purge,
)
from postroomd.domain.provisions import Provision, ProvisionKind, ProvisionStatus
from tests.support.lifecycle import BOTH, DOMAIN, FREE, NOW, PLATFORM, RETENTION, START, domain, mailbox

D, E, M, S = DomainStatus, MailboxEvent, MailboxStatus, ProvisionStanding


def created(domain_status: DomainStatus = D.READY, policy: LifecyclePolicy = PLATFORM) -> Mailbox:
    return new_mailbox(
        domain(domain_status),
        mailbox_id="b0000000-0000-4000-8000-000000000000",
        local_part="ada",
        period=SubscriptionPeriod.MONTHLY,
        policy=policy,
        now=START,
    )


def requested(subject: Subject) -> Provision:
    provision = pending_provision(subject, NOW)
    assert provision is not None
    return provision


def provisioned(mailbox: Mailbox) -> Mailbox:
    _, after = confirm_provision(requested(mailbox), mailbox, D.READY, now=NOW)
    assert isinstance(after, Mailbox)
    return replace(after, revision=after.revision + 1)


# --- Mailboxes --------------------------------------------------------------------------------------------------------


def test_a_new_mailbox_is_creating_until_the_platform_confirms() -> None:
    creating = created()
    assert (creating.status, creating.provision) == (M.CREATING, S.CREATE_AWAITED)
    provision = requested(creating)
    assert (provision.kind, provision.mailbox_id, provision.alias_id, provision.domain_id) == (
        ProvisionKind.CREATE,
        creating.id,
        None,
        creating.domain_id,
    )
    confirmed, ready = confirm_provision(provision, creating, D.READY, now=NOW)
    assert confirmed == replace(provision, status=ProvisionStatus.CONFIRMED, settled_at=NOW)
    assert ready == replace(
        creating, status=M.READY, provision=S.PROVIDED, provision_id=None, cause=E.PROVISIONED, updated_at=NOW
    )
    assert confirm_provision(confirmed, ready, D.READY, now=NOW) == (confirmed, ready)


def test_a_creation_is_requested_once_the_domain_is_ready_and_paid_for() -> None:
    waiting = created(D.VALIDATING, BOTH)
    assert (waiting.status, waiting.provision_id) == (M.WAITING_PAYMENT, None)
    payment = pending_payment(waiting)
    assert payment is not None
    _, unvalidated = confirm_payment(payment, waiting, D.VALIDATING, now=NOW)
    assert unvalidated is not None
    assert (unvalidated.status, unvalidated.provision_id) == (M.WAITING_DOMAIN, None)
    assert pending_provision(unvalidated, NOW) is None
    creating = follow_domain(unvalidated, DomainStatus.READY, NOW)
    assert creating.status is M.CREATING
    assert requested(creating).kind is ProvisionKind.CREATE


def test_without_a_platform_a_new_mailbox_is_ready() -> None:
    assert created(policy=FREE).status is M.READY
    assert pending_provision(created(policy=FREE), NOW) is None


def test_a_restore_is_requested_of_the_platform() -> None:
    deleted = delete_mailbox(provisioned(created()), RETENTION, NOW)
    back = restore_mailbox(deleted, D.READY, PLATFORM, NOW)
    assert back.status is M.RESTORING
    assert requested(back).kind is ProvisionKind.RESTORE
    assert provisioned(back).status is M.READY


def test_a_mailbox_deleted_while_creating_is_restored_as_creating() -> None:
    creating = created()
    deleted = delete_mailbox(creating, RETENTION, NOW)
    assert deleted.provision_id == creating.provision_id
    assert restore_mailbox(deleted, D.READY, PLATFORM, NOW).status is M.CREATING
    _, waiting = confirm_provision(requested(creating), deleted, D.READY, now=NOW)
    assert waiting == replace(deleted, provision=S.PROVIDED, provision_id=None)


def test_a_confirmation_does_not_end_a_lock() -> None:
    locked = lock_mailbox(created(), D.READY, reason="abuse", now=NOW)
    assert provisioned(locked).status is M.LOCKED


def test_a_purge_waits_for_the_platform() -> None:
    deleted = delete_mailbox(provisioned(created()), RETENTION, NOW)
    due = NOW + RETENTION
    purging = advance_mailbox(deleted, D.READY, PLATFORM, due)
    assert purging is not None
    assert (purging.status, purging.provision, purging.cause) == (M.DELETING, S.DELETE_AWAITED, E.PURGE_DUE)
    assert requested(purging).kind is ProvisionKind.DELETE
    assert advance_mailbox(purging, D.READY, PLATFORM, due + RETENTION) is purging
    assert confirm_provision(requested(purging), purging, D.READY, now=due)[1] is None


def test_a_requested_purge_supersedes_a_requested_creation() -> None:
    creating = created()
    purging = request_purge(delete_mailbox(creating, RETENTION, NOW), NOW + RETENTION)
    assert requested(purging).id != requested(creating).id
    late, same = confirm_provision(requested(creating), purging, D.READY, now=NOW)
    assert late.status is ProvisionStatus.CONFIRMED
    assert same is purging


def test_a_mailbox_unknown_to_the_platform_is_purged_at_once() -> None:
    deleted = delete_mailbox(created(D.VALIDATING), RETENTION, NOW)
    assert advance_mailbox(deleted, D.VALIDATING, PLATFORM, NOW + RETENTION) is None
    assert advance_mailbox(delete_mailbox(mailbox(), RETENTION, NOW), D.READY, FREE, NOW + RETENTION) is None


@pytest.mark.parametrize(("policy", "requests"), [(PLATFORM, True), (FREE, False)])
def test_mailboxes_of_a_deleted_domain_are_purged_by_the_platform(policy: LifecyclePolicy, requests: bool) -> None:
    deleting = replace(mailbox(), purging=True, status=M.DELETING)
    purging = purge_with_domain(deleting, policy)
    if not requests:
        assert purging is None
        return
    assert purging is not None
    assert requested(purging).kind is ProvisionKind.DELETE
    assert purge_with_domain(purging, policy) is purging
    assert purge_with_domain(replace(created(D.VALIDATING), purging=True, status=M.DELETING), policy) is None


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_provision_is_retried_with_exponential_backoff() -> None:
    creating = created()
    provision, now, delays = requested(creating), NOW, []
    for attempt in range(1, 30):
        provision, same = fail_provision(provision, creating, D.READY, reason=f"full: {attempt}", now=now)
        assert same is creating
        assert (provision.status, provision.attempts, provision.error) == (
            ProvisionStatus.PENDING,
            attempt,
            f"full: {attempt}",
        )
        delays.append(provision.next_attempt_at - now)
        now = provision.next_attempt_at
    assert delays[:4] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY, 8 * FIRST_RETRY]
    assert delays[-1] == MAX_RETRY
    assert confirm_provision(provision, creating, D.READY, now=now)[0].status is ProvisionStatus.CONFIRMED


def test_a_failure_reported_before_the_next_attempt_changes_nothing() -> None:
    provision, _ = fail_provision(requested(created()), None, D.READY, reason="full", now=NOW)
    again, _ = fail_provision(
        provision, None, D.READY, reason="full", now=NOW + FIRST_RETRY - timedelta(microseconds=1)
    )
    assert again is provision


@pytest.mark.parametrize("status", [ProvisionStatus.CONFIRMED, ProvisionStatus.VOID])
def test_a_settled_provision_can_not_fail_nor_a_void_one_be_confirmed(status: ProvisionStatus) -> None:
    provision = replace(requested(created()), status=status)
    with pytest.raises(PreconditionFailed, match=f"is {status}"):
        fail_provision(provision, None, D.READY, reason="full", now=NOW)
    if status is ProvisionStatus.VOID:
        with pytest.raises(PreconditionFailed, match="is void"):
            confirm_provision(provision, None, D.READY, now=NOW)


# --- Aliases and domains ----------------------------------------------------------------------------------------------


def test_an_alias_is_provisioning_and_deleting_until_the_platform_confirms() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=PLATFORM, now=START)
    assert (alias.status, alias.provision_id) == (AliasStatus.PROVISIONING, None)
    creating = request_alias(alias, D.READY)
    assert request_alias(creating, D.READY) is creating
    provision = requested(creating)
    assert (provision.kind, provision.alias_id, provision.mailbox_id) == (ProvisionKind.CREATE, "a", mailbox().id)
    _, ready = confirm_provision(provision, creating, D.READY, now=NOW)
    assert ready == replace(creating, status=AliasStatus.READY, provision_id=None, updated_at=NOW)
    deleting = delete_alias(replace(creating, status=AliasStatus.READY, provision_id=None), PLATFORM, NOW)
    assert deleting.status is AliasStatus.DELETING
    assert delete_alias(deleting, PLATFORM, NOW) is deleting
    assert requested(deleting).kind is ProvisionKind.DELETE
    assert confirm_provision(requested(deleting), deleting, D.READY, now=NOW)[1] is None


def test_a_confirmation_keeps_an_alias_of_a_deleted_domain_deleting() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=PLATFORM, now=START)
    deleting = replace(request_alias(alias, D.READY), status=AliasStatus.DELETING)
    provision = replace(requested(deleting), kind=ProvisionKind.CREATE)
    assert confirm_provision(provision, deleting, D.DELETING, now=NOW)[1] == replace(deleting, provision_id=None)


def test_an_alias_unknown_to_the_platform_is_deleted_at_once() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=PLATFORM, now=START)
    assert delete_alias(alias, PLATFORM, NOW).provision_id is None
    ready = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=FREE, now=START)
    assert ready.status is AliasStatus.READY
    assert delete_alias(ready, FREE, NOW).provision_id is None


def test_a_domain_is_creating_and_deleting_until_the_platform_confirms() -> None:
    creating = replace(domain(D.CREATING), provision_id="c0000000-0000-4000-8000-000000000001")
    provision = requested(creating)
    assert (provision.kind, provision.domain_id, provision.mailbox_id, provision.alias_id) == (
        ProvisionKind.CREATE,
        DOMAIN.id,
        None,
        None,
    )
    _, waiting = confirm_provision(provision, creating, D.CREATING, now=NOW)
    moved = {"status": D.WAITING_VALIDATION, "cause": DomainEvent.PROVISIONED, "updated_at": NOW}
    assert waiting == replace(creating, provision_id=None, **moved)  # type: ignore[arg-type] # values of several types
    deleting = delete_domain(creating, 0, force=False, now=NOW)
    assert deleting.provision_id is None
    purging = purge_domain(deleting, PLATFORM)
    assert purging is not None
    assert requested(purging).kind is ProvisionKind.DELETE
    assert purge_domain(purging, PLATFORM) is purging
    assert purge_domain(deleting, FREE) is None
    assert confirm_provision(requested(purging), purging, D.DELETING, now=NOW)[1] is None
