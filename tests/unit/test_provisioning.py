"""What the mail platform is asked for, and what its answers do."""

from dataclasses import replace
from datetime import timedelta

import pytest

from postroomd.domain.aliases import delete_alias, new_alias, request_alias
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import PreconditionFailed
from postroomd.domain.events import MailboxEvent, ProvisionStanding
from postroomd.domain.mailboxes import (
    admit_mailbox,
    advance_mailbox,
    delete_mailbox,
    lock_mailbox,
    new_mailbox,
    purge_with_domain,
    restore_mailbox,
)
from postroomd.domain.model import AliasStatus, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import awaited_payment, confirm_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import (
    FIRST_RETRY,
    LAST_RETRY,
    Subject,
    awaited_provision,
    confirm_provision,
    delete_domain_on_platform,
    fail_provision,
    purge_on_platform,
)
from postroomd.domain.provisions import Provision, ProvisionKind, ProvisionStatus
from tests.support.lifecycle import BOTH, DOMAIN, FREE, NOW, PLATFORM, RETENTION, START, domain, mailbox

D, E, M, S = DomainStatus, MailboxEvent, MailboxStatus, ProvisionStanding


def made(domain_status: DomainStatus = D.READY, policy: LifecyclePolicy = PLATFORM) -> Mailbox:
    return new_mailbox(
        domain(domain_status),
        mailbox_id="b0000000-0000-4000-8000-000000000000",
        local_part="ada",
        period=SubscriptionPeriod.MONTHLY,
        policy=policy,
        now=START,
    )


def asked(subject: Subject) -> Provision:
    work = awaited_provision(subject, NOW)
    assert work is not None
    return work


def provided(mailbox: Mailbox) -> Mailbox:
    _, after = confirm_provision(asked(mailbox), mailbox, D.READY, now=NOW)
    assert isinstance(after, Mailbox)
    return replace(after, revision=after.revision + 1)


# --- Mailboxes --------------------------------------------------------------------------------------------------------


def test_a_new_mailbox_is_creating_until_the_platform_has_it() -> None:
    creating = made()
    assert (creating.status, creating.provision) == (M.CREATING, S.CREATE_AWAITED)
    work = asked(creating)
    assert (work.kind, work.mailbox_id, work.alias_id, work.domain_id) == (
        ProvisionKind.CREATE,
        creating.id,
        None,
        creating.domain_id,
    )
    confirmed, ready = confirm_provision(work, creating, D.READY, now=NOW)
    assert confirmed == replace(work, status=ProvisionStatus.CONFIRMED, settled_at=NOW)
    assert ready == replace(
        creating, status=M.READY, provision=S.PROVIDED, provision_id=None, cause=E.PROVISIONED, updated_at=NOW
    )
    assert confirm_provision(confirmed, ready, D.READY, now=NOW) == (confirmed, ready)


def test_the_platform_is_asked_once_the_domain_is_proved_and_the_payment_settled() -> None:
    waiting = made(D.VALIDATING, BOTH)
    assert (waiting.status, waiting.provision_id) == (M.WAITING_PAYMENT, None)
    payment = awaited_payment(waiting)
    assert payment is not None
    _, unproved = confirm_payment(payment, waiting, D.VALIDATING, now=NOW)
    assert unproved is not None
    assert (unproved.status, unproved.provision_id) == (M.WAITING_DOMAIN, None)
    assert awaited_provision(unproved, NOW) is None
    creating = admit_mailbox(unproved, NOW)
    assert creating.status is M.CREATING
    assert asked(creating).kind is ProvisionKind.CREATE


def test_without_a_platform_what_is_stored_is_provided() -> None:
    assert made(policy=FREE).status is M.READY
    assert awaited_provision(made(policy=FREE), NOW) is None


def test_a_restore_is_the_platforms_work() -> None:
    gone = delete_mailbox(provided(made()), RETENTION, NOW)
    back = restore_mailbox(gone, D.READY, PLATFORM, NOW)
    assert back.status is M.RESTORING
    assert asked(back).kind is ProvisionKind.RESTORE
    assert provided(back).status is M.READY


def test_a_mailbox_deleted_while_creating_is_created_all_the_same_and_restored_as_that() -> None:
    creating = made()
    gone = delete_mailbox(creating, RETENTION, NOW)
    assert gone.provision_id == creating.provision_id
    assert restore_mailbox(gone, D.READY, PLATFORM, NOW).status is M.CREATING
    _, there = confirm_provision(asked(creating), gone, D.READY, now=NOW)
    assert there == replace(gone, provision=S.PROVIDED, provision_id=None)


def test_a_confirmation_does_not_lift_a_lock() -> None:
    locked = lock_mailbox(made(), D.READY, reason="abuse", now=NOW)
    assert provided(locked).status is M.LOCKED


def test_the_purge_waits_for_the_platform() -> None:
    gone = delete_mailbox(provided(made()), RETENTION, NOW)
    due = NOW + RETENTION
    purging = advance_mailbox(gone, D.READY, PLATFORM, due)
    assert purging is not None
    assert (purging.status, purging.provision, purging.cause) == (M.DELETING, S.DELETE_AWAITED, E.PURGE_DUE)
    assert asked(purging).kind is ProvisionKind.DELETE
    assert advance_mailbox(purging, D.READY, PLATFORM, due + RETENTION) is purging
    assert confirm_provision(asked(purging), purging, D.READY, now=due)[1] is None


def test_what_the_platform_was_asked_to_create_is_asked_to_be_deleted_and_the_former_counts_no_more() -> None:
    creating = made()
    purging = purge_on_platform(delete_mailbox(creating, RETENTION, NOW), NOW + RETENTION)
    assert asked(purging).id != asked(creating).id
    late, same = confirm_provision(asked(creating), purging, D.READY, now=NOW)
    assert late.status is ProvisionStatus.CONFIRMED
    assert same is purging


def test_what_the_platform_never_heard_of_is_purged_at_once() -> None:
    gone = delete_mailbox(made(D.VALIDATING), RETENTION, NOW)
    assert advance_mailbox(gone, D.VALIDATING, PLATFORM, NOW + RETENTION) is None
    assert advance_mailbox(delete_mailbox(mailbox(), RETENTION, NOW), D.READY, FREE, NOW + RETENTION) is None


@pytest.mark.parametrize(("policy", "asks"), [(PLATFORM, True), (FREE, False)])
def test_the_mailboxes_of_a_deleted_domain_go_by_the_platform(policy: LifecyclePolicy, asks: bool) -> None:
    deleting = replace(mailbox(), purging=True, status=M.DELETING)
    going = purge_with_domain(deleting, policy)
    if not asks:
        assert going is None
        return
    assert going is not None
    assert asked(going).kind is ProvisionKind.DELETE
    assert purge_with_domain(going, policy) is going
    assert purge_with_domain(replace(made(D.VALIDATING), purging=True, status=M.DELETING), policy) is None


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_is_kept_and_tried_again_ever_more_rarely() -> None:
    creating = made()
    work, now, waits = asked(creating), NOW, []
    for attempt in range(1, 30):
        work, same = fail_provision(work, creating, D.READY, reason=f"full: {attempt}", now=now)
        assert same is creating
        assert (work.status, work.attempts, work.error) == (ProvisionStatus.PENDING, attempt, f"full: {attempt}")
        waits.append(work.next_attempt_at - now)
        now = work.next_attempt_at
    assert waits[:4] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY, 8 * FIRST_RETRY]
    assert waits[-1] == LAST_RETRY
    assert confirm_provision(work, creating, D.READY, now=now)[0].status is ProvisionStatus.CONFIRMED


def test_a_failure_that_is_reported_again_is_the_same() -> None:
    work, _ = fail_provision(asked(made()), None, D.READY, reason="full", now=NOW)
    again, _ = fail_provision(work, None, D.READY, reason="full", now=NOW + FIRST_RETRY - timedelta(microseconds=1))
    assert again is work


@pytest.mark.parametrize("status", [ProvisionStatus.CONFIRMED, ProvisionStatus.VOID])
def test_what_is_settled_does_not_fail_and_what_is_void_is_not_confirmed(status: ProvisionStatus) -> None:
    work = replace(asked(made()), status=status)
    with pytest.raises(PreconditionFailed, match=f"is {status}"):
        fail_provision(work, None, D.READY, reason="full", now=NOW)
    if status is ProvisionStatus.VOID:
        with pytest.raises(PreconditionFailed, match="is void"):
            confirm_provision(work, None, D.READY, now=NOW)


# --- Aliases and domains ----------------------------------------------------------------------------------------------


def test_an_alias_is_provisioning_until_the_platform_has_it_and_deleting_until_it_has_not() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=PLATFORM, now=START)
    assert (alias.status, alias.provision_id) == (AliasStatus.PROVISIONING, None)
    requested = request_alias(alias)
    assert request_alias(requested) is requested
    work = asked(requested)
    assert (work.kind, work.alias_id, work.mailbox_id) == (ProvisionKind.CREATE, "a", mailbox().id)
    _, ready = confirm_provision(work, requested, D.READY, now=NOW)
    assert ready == replace(requested, status=AliasStatus.READY, provision_id=None, updated_at=NOW)
    deleting = delete_alias(replace(requested, status=AliasStatus.READY, provision_id=None), PLATFORM, NOW)
    assert deleting.status is AliasStatus.DELETING
    assert delete_alias(deleting, PLATFORM, NOW) is deleting
    assert asked(deleting).kind is ProvisionKind.DELETE
    assert confirm_provision(asked(deleting), deleting, D.READY, now=NOW)[1] is None


def test_an_alias_made_after_its_domain_was_deleted_goes_with_its_mailbox() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=PLATFORM, now=START)
    deleting = replace(request_alias(alias), status=AliasStatus.DELETING)
    work = replace(asked(deleting), kind=ProvisionKind.CREATE)
    assert confirm_provision(work, deleting, D.DELETING, now=NOW)[1] == replace(deleting, provision_id=None)


def test_an_alias_that_the_platform_never_heard_of_goes_at_once() -> None:
    alias = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=PLATFORM, now=START)
    assert delete_alias(alias, PLATFORM, NOW).provision_id is None
    ready = new_alias(mailbox(), alias_id="a", local_part="countess", description="", policy=FREE, now=START)
    assert ready.status is AliasStatus.READY
    assert delete_alias(ready, FREE, NOW).provision_id is None


def test_a_domain_is_creating_until_the_platform_has_it_and_goes_last() -> None:
    creating = replace(domain(D.CREATING), provision_id="c0000000-0000-4000-8000-000000000001")
    work = asked(creating)
    assert (work.kind, work.domain_id, work.mailbox_id, work.alias_id) == (ProvisionKind.CREATE, DOMAIN.id, None, None)
    _, there = confirm_provision(work, creating, D.CREATING, now=NOW)
    assert there == replace(creating, status=D.WAITING_VALIDATION, provision_id=None, updated_at=NOW)
    deleting = delete_domain(creating, NOW)
    assert deleting.provision_id is None
    going = delete_domain_on_platform(deleting, PLATFORM)
    assert going is not None
    assert asked(going).kind is ProvisionKind.DELETE
    assert delete_domain_on_platform(going, PLATFORM) is going
    assert delete_domain_on_platform(deleting, FREE) is None
    assert confirm_provision(asked(going), going, D.DELETING, now=NOW)[1] is None
