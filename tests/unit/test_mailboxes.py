"""The rules of mailboxes without billing: the status, the subscription and the dates after each."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from postroomd.domain.calendar import add_months
from postroomd.domain.errors import Locked, PostroomError, PreconditionFailed, TransientState
from postroomd.domain.events import MailboxEvent
from postroomd.domain.mailboxes import (
    advance_mailbox,
    delete_mailbox,
    follow_domain,
    new_mailbox,
    restore_mailbox,
    update_mailbox,
)
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from tests.support.lifecycle import (
    DOMAIN,
    FREE,
    MICROSECOND,
    NOW,
    RETENTION,
    START,
    domain,
    mailbox,
)

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod
E = MailboxEvent


def canceled(period: SubscriptionPeriod = P.MONTHLY) -> Mailbox:
    """A mailbox whose subscription was canceled and has ended with its first period."""
    canceling = change(mailbox(period=period), period=P.CANCELED)
    due = canceling.next_subscription_period_starts_at
    assert due is not None
    ended = advance_mailbox(canceling, D.READY, FREE, due)
    assert ended is not None
    return ended


# --- New mailboxes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in DomainStatus if status is not D.DELETING])
@pytest.mark.parametrize(
    ("period", "ends"),
    [(P.MONTHLY, datetime(2024, 2, 29, 12, 30, tzinfo=UTC)), (P.YEARLY, datetime(2025, 1, 31, 12, 30, tzinfo=UTC))],
)
def test_a_new_mailbox_starts_its_first_period_immediately(
    status: DomainStatus, period: SubscriptionPeriod, ends: datetime
) -> None:
    new = new_mailbox(domain(status), mailbox_id="b", local_part="ada", period=period, policy=FREE, now=START)
    assert new == Mailbox(
        id="b",
        organization_id=DOMAIN.organization_id,
        project_id=DOMAIN.project_id,
        domain_id=DOMAIN.id,
        email="ada@example.com",
        status=M.READY if status is D.READY else M.WAITING_DOMAIN,
        subscription_period=period,
        last_paid_period=period,
        period_anchor_at=START,
        subscription_period_started_at=START,
        next_subscription_period=period,
        next_subscription_period_starts_at=ends,
        created_at=START,
        updated_at=START,
        deletion_scheduled_at=None,
    )


@pytest.mark.parametrize("status", MailboxStatus)
def test_a_ready_domain_moves_only_mailboxes_that_wait_for_it(status: MailboxStatus) -> None:
    before = mailbox(status)
    after = follow_domain(before, DomainStatus.READY, NOW)
    if status is M.WAITING_DOMAIN:
        assert after == replace(before, status=M.READY, cause=E.DOMAIN_READY, updated_at=NOW)
    else:
        assert after is before


# --- UpdateMailbox ----------------------------------------------------------------------------------------------------

change = partial(update_mailbox, domain_status=D.READY, new_password=False, policy=FREE, now=NOW)


@pytest.mark.parametrize("status", MailboxStatus)
def test_an_empty_update_changes_nothing_in_any_status(status: MailboxStatus) -> None:
    before = mailbox(status)
    assert change(before, period=None) is before


@pytest.mark.parametrize("status", [status for status in MailboxStatus if status not in {M.DELETING, M.LOCKED}])
@pytest.mark.parametrize("period", [P.YEARLY, P.CANCELED])
def test_a_new_period_follows_the_running_one(status: MailboxStatus, period: SubscriptionPeriod) -> None:
    before = mailbox(status)
    assert change(before, period=period) == replace(before, next_subscription_period=period, updated_at=NOW)


def test_setting_the_same_next_period_changes_nothing() -> None:
    before = mailbox(period=P.YEARLY)
    assert change(before, period=P.YEARLY) is before


def test_a_canceled_mailbox_stays_in_use_until_its_period_ends() -> None:
    canceling = change(mailbox(), period=P.CANCELED)
    assert canceling.status is M.READY
    assert canceling.subscription_period is P.MONTHLY
    assert canceling.next_subscription_period_starts_at == mailbox().next_subscription_period_starts_at
    assert canceling.deletion_scheduled_at is None


def test_a_cancellation_can_be_undone_before_the_period_ends() -> None:
    renewing = change(change(mailbox(), period=P.CANCELED), period=P.MONTHLY)
    assert renewing == replace(mailbox(), updated_at=NOW)


@pytest.mark.parametrize("status", [status for status in MailboxStatus if status is not M.DELETION_SCHEDULED])
def test_a_new_password_changes_updated_at_only(status: MailboxStatus) -> None:
    before = mailbox(status)
    expected: dict[MailboxStatus, type[PostroomError]] = {M.DELETING: TransientState, M.LOCKED: Locked}
    if status in expected:
        with pytest.raises(expected[status]):
            change(before, period=None, new_password=True)
        return
    assert change(before, period=None, new_password=True) == replace(before, updated_at=NOW)


def test_a_password_and_a_period_can_change_together() -> None:
    changed = change(mailbox(), period=P.YEARLY, new_password=True)
    assert changed == replace(mailbox(), next_subscription_period=P.YEARLY, updated_at=NOW)


@pytest.mark.parametrize("before", [mailbox(M.DELETION_SCHEDULED), canceled()], ids=["deleted", "canceled"])
@pytest.mark.parametrize("period", [None, *P])
def test_a_password_can_not_change_while_deletion_is_scheduled(
    before: Mailbox, period: SubscriptionPeriod | None
) -> None:
    with pytest.raises(PreconditionFailed, match="restore it first") as caught:
        change(before, period=period, new_password=True)
    assert caught.value.subject.id == before.id


@pytest.mark.parametrize("arguments", [(P.YEARLY, False), (None, True), (P.CANCELED, True)])
def test_a_locked_mailbox_refuses_every_change(arguments: tuple[SubscriptionPeriod | None, bool]) -> None:
    period, new_password = arguments
    with pytest.raises(Locked) as caught:
        change(mailbox(M.LOCKED), period=period, new_password=new_password)
    assert caught.value.resource.id == mailbox().id


@pytest.mark.parametrize("arguments", [(P.YEARLY, False), (None, True), (P.CANCELED, True)])
def test_a_deleting_mailbox_refuses_every_change(arguments: tuple[SubscriptionPeriod | None, bool]) -> None:
    period, new_password = arguments
    with pytest.raises(TransientState) as caught:
        change(mailbox(M.DELETING), period=period, new_password=new_password)
    assert caught.value.current_state == "deleting"


@pytest.mark.parametrize(
    ("domain_status", "status"), [(D.READY, M.READY), (D.VALIDATING, M.WAITING_DOMAIN), (D.DELETING, M.WAITING_DOMAIN)]
)
@pytest.mark.parametrize(("period", "months"), [(P.MONTHLY, 1), (P.YEARLY, 12)])
def test_a_period_that_is_set_before_the_purge_undoes_a_cancellation(
    domain_status: DomainStatus, status: MailboxStatus, period: SubscriptionPeriod, months: int
) -> None:
    ended = canceled()
    assert ended.deletion_scheduled_at is not None
    last_moment = ended.deletion_scheduled_at - MICROSECOND
    back = update_mailbox(ended, domain_status, period=period, new_password=False, policy=FREE, now=last_moment)
    assert back == replace(
        ended,
        status=status,
        subscription_period=period,
        last_paid_period=period,
        period_anchor_at=last_moment,
        subscription_period_started_at=last_moment,
        next_subscription_period=period,
        next_subscription_period_starts_at=add_months(last_moment, months),
        deletion_scheduled_at=None,
        cause=E.REACTIVATE,
        updated_at=last_moment,
    )


def test_a_cancellation_can_not_be_undone_once_the_purge_is_due() -> None:
    ended = canceled()
    assert ended.deletion_scheduled_at is not None
    with pytest.raises(TransientState) as caught:
        update_mailbox(
            ended, D.READY, period=P.MONTHLY, new_password=False, policy=FREE, now=ended.deletion_scheduled_at
        )
    assert caught.value.current_state == "deleting"


def test_canceling_a_canceled_mailbox_changes_nothing() -> None:
    ended = canceled()
    assert change(ended, period=P.CANCELED) is ended


# --- DeleteMailbox and RestoreMailbox ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", MailboxStatus)
def test_deletion_is_scheduled_once_after_the_retention(status: MailboxStatus) -> None:
    before = mailbox(status)
    deleted = delete_mailbox(before, RETENTION, NOW)
    if status in {M.DELETION_SCHEDULED, M.DELETING}:
        assert deleted is before
        return
    assert deleted == replace(
        before,
        status=M.DELETION_SCHEDULED,
        deletion_scheduled_at=NOW + RETENTION,
        payment_step_at=None,
        cause=E.DELETE,
        updated_at=NOW,
    )
    assert delete_mailbox(deleted, RETENTION, NOW + timedelta(days=1)) is deleted


@pytest.mark.parametrize("status", [status for status in MailboxStatus if status is not M.DELETION_SCHEDULED])
def test_only_a_mailbox_scheduled_for_deletion_can_be_restored(status: MailboxStatus) -> None:
    with pytest.raises(PreconditionFailed, match=f"the mailbox is {status}:") as caught:
        restore_mailbox(mailbox(status), D.READY, FREE, NOW)
    assert (caught.value.subject.type, caught.value.subject.id) == ("mailbox", mailbox().id)


@pytest.mark.parametrize("domain_status", DomainStatus)
def test_a_restored_mailbox_waits_for_a_domain_that_is_not_ready(domain_status: DomainStatus) -> None:
    restored = restore_mailbox(delete_mailbox(mailbox(), RETENTION, START), domain_status, FREE, NOW)
    assert restored.status is (M.READY if domain_status is D.READY else M.WAITING_DOMAIN)


@pytest.mark.parametrize("following", P)
def test_a_restore_resumes_a_period_that_has_not_ended(following: SubscriptionPeriod) -> None:
    before = replace(mailbox(), next_subscription_period=following)
    deleted = delete_mailbox(before, RETENTION, START + timedelta(days=1))
    assert before.next_subscription_period_starts_at is not None
    last_moment = before.next_subscription_period_starts_at - MICROSECOND
    assert restore_mailbox(deleted, D.READY, FREE, last_moment) == replace(
        before, cause=E.RESTORE, updated_at=last_moment
    )


@pytest.mark.parametrize("period", [P.MONTHLY, P.YEARLY])
def test_a_restore_after_the_period_starts_one_of_the_same_length(period: SubscriptionPeriod) -> None:
    before = mailbox(period=period)
    ends = before.next_subscription_period_starts_at
    assert ends is not None
    deleted = delete_mailbox(before, RETENTION, ends - timedelta(days=1))
    assert restore_mailbox(deleted, D.READY, FREE, ends) == replace(
        before,
        period_anchor_at=ends,
        subscription_period_started_at=ends,
        next_subscription_period_starts_at=add_months(ends, 1 if period is P.MONTHLY else 12),
        cause=E.RESTORE,
        updated_at=ends,
    )


@pytest.mark.parametrize("period", [P.MONTHLY, P.YEARLY])
def test_a_restore_after_a_cancellation_starts_a_period_of_the_last_length(period: SubscriptionPeriod) -> None:
    ended = canceled(period)
    assert ended.deletion_scheduled_at is not None
    moment = ended.deletion_scheduled_at - MICROSECOND
    restored = restore_mailbox(ended, D.READY, FREE, moment)
    assert restored.status is M.READY
    assert (restored.subscription_period, restored.next_subscription_period) == (period, period)
    assert restored.period_anchor_at == restored.subscription_period_started_at == moment
    assert restored.next_subscription_period_starts_at == add_months(moment, 1 if period is P.MONTHLY else 12)
    assert restored.deletion_scheduled_at is None


@pytest.mark.parametrize(("late", "restorable"), [(-MICROSECOND, True), (timedelta(0), False), (MICROSECOND, False)])
def test_a_restore_is_possible_until_the_purge_is_due(late: timedelta, restorable: bool) -> None:
    deleted = delete_mailbox(mailbox(), RETENTION, NOW)
    moment = NOW + RETENTION + late
    if restorable:
        assert restore_mailbox(deleted, D.READY, FREE, moment).status is M.READY
        return
    with pytest.raises(PreconditionFailed, match="has passed"):
        restore_mailbox(deleted, D.READY, FREE, moment)
