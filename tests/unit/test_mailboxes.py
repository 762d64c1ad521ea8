"""The rules of mailboxes without billing: the status, the subscription and the dates after each."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.domain.calendar import add_months
from postroomd.domain.errors import Locked, PostroomError, PreconditionFailed, TransientState
from postroomd.domain.events import MailboxEvent
from postroomd.domain.mailboxes import (
    advance_mailbox,
    delete_mailbox,
    due_at,
    leave_waiting_domain,
    new_mailbox,
    restore_mailbox,
    update_mailbox,
)
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.policy import LifecyclePolicy
from tests.support.lifecycle import (
    BILLED,
    BOTH,
    DOMAIN,
    FIELDS,
    FREE,
    MICROSECOND,
    NOW,
    PLATFORM,
    RETENTION,
    START,
    domain,
    mailbox,
)

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod
E = MailboxEvent


def domain_of(status: MailboxStatus) -> DomainStatus:
    """The status of the domain of a mailbox with a status."""
    return D.VALIDATING if status is M.WAITING_DOMAIN else D.READY


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
    after = leave_waiting_domain(before, NOW)
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


# --- The calendar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", MailboxStatus)
def test_a_settled_mailbox_renews_unless_it_is_being_deleted(status: MailboxStatus) -> None:
    before = mailbox(status)
    renewal = before.next_subscription_period_starts_at
    assert renewal is not None
    advanced = advance_mailbox(before, domain_of(status), FREE, renewal)
    if status in {M.READY, M.LOCKED, M.WAITING_DOMAIN, M.CREATING, M.RESTORING}:
        assert due_at(before) == renewal
        assert advanced == replace(
            before,
            subscription_period_started_at=renewal,
            next_subscription_period_starts_at=datetime(2024, 3, 31, 12, 30, tzinfo=UTC),
            updated_at=renewal,
        )
    elif status is M.DELETION_SCHEDULED:
        assert due_at(before) == before.deletion_scheduled_at
        assert advanced is before  # its retention of 30 days ends after its month
    elif status is M.DELETING:
        assert due_at(before) is None
        assert advanced is before
    else:
        assert due_at(before) == before.payment_step_at


@pytest.mark.parametrize("status", MailboxStatus)
def test_no_step_is_taken_before_it_is_due(status: MailboxStatus) -> None:
    before = mailbox(status)
    due = due_at(before) or START + timedelta(days=10_000)
    assert advance_mailbox(before, domain_of(status), FREE, due - MICROSECOND) is before


def test_a_purge_is_due_at_its_instant_and_not_before() -> None:
    deleted = delete_mailbox(mailbox(), RETENTION, NOW)
    assert advance_mailbox(deleted, D.READY, FREE, NOW + RETENTION - MICROSECOND) is deleted
    assert advance_mailbox(deleted, D.READY, FREE, NOW + RETENTION) is None


def test_a_new_retention_does_not_move_a_scheduled_deletion() -> None:
    deleted = delete_mailbox(mailbox(), RETENTION, NOW)
    shorter = replace(FREE, deletion_retention=timedelta(0), cancellation_retention=timedelta(0))
    assert advance_mailbox(deleted, D.READY, shorter, NOW + RETENTION - MICROSECOND) is deleted


def test_an_ended_subscription_has_a_retention_of_its_own() -> None:
    policy = replace(FREE, deletion_retention=timedelta(minutes=10), cancellation_retention=timedelta(days=60))
    before = replace(mailbox(), next_subscription_period=P.CANCELED)
    ends = before.next_subscription_period_starts_at
    assert ends is not None
    canceled = advance_mailbox(before, D.READY, policy, ends)
    assert canceled is not None
    assert canceled.deletion_scheduled_at == ends + timedelta(days=60)


@pytest.mark.parametrize("status", [M.READY, M.LOCKED, M.WAITING_DOMAIN, M.CREATING, M.RESTORING])
def test_a_cancellation_schedules_the_deletion_at_the_periods_end(status: MailboxStatus) -> None:
    before = replace(mailbox(status), next_subscription_period=P.CANCELED)
    ends = before.next_subscription_period_starts_at
    assert ends is not None
    assert advance_mailbox(before, domain_of(status), FREE, ends + timedelta(days=3)) == replace(
        before,
        status=M.DELETION_SCHEDULED,
        subscription_period=P.CANCELED,
        last_paid_period=P.MONTHLY,
        subscription_period_started_at=ends,
        next_subscription_period_starts_at=None,
        deletion_scheduled_at=ends + RETENTION,
        cause=E.CANCELLATION_DUE,
        updated_at=ends,
    )


def test_a_new_length_begins_with_the_next_period() -> None:
    before = replace(mailbox(), next_subscription_period=P.YEARLY)
    ends = before.next_subscription_period_starts_at
    assert ends is not None
    advanced = advance_mailbox(before, D.READY, FREE, ends)
    assert advanced is not None
    assert (advanced.subscription_period, advanced.last_paid_period) == (P.YEARLY, P.YEARLY)
    assert advanced.next_subscription_period_starts_at == datetime(2025, 2, 28, 12, 30, tzinfo=UTC)
    assert advanced.period_anchor_at == START


def advance_fully(
    before: Mailbox | None, now: datetime, policy: LifecyclePolicy, domain_status: DomainStatus
) -> Mailbox | None:
    """The mailbox after all steps that are due at `now`; None if it is purged."""
    while before is not None and (after := advance_mailbox(before, domain_status, policy, now)) is not before:
        before = after
    return before


@settings(deadline=None)
@given(
    start=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    status=st.sampled_from(sorted(MailboxStatus)),
    period=st.sampled_from([P.MONTHLY, P.YEARLY]),
    following=st.sampled_from(sorted(P)),
    days=st.integers(min_value=1, max_value=800),
    policy=st.sampled_from([FREE, BILLED, PLATFORM, BOTH]),
)
def test_catching_up_has_the_same_result_as_daily_steps(
    start: datetime,
    status: MailboxStatus,
    period: SubscriptionPeriod,
    following: SubscriptionPeriod,
    days: int,
    policy: LifecyclePolicy,
) -> None:
    first = new_mailbox(DOMAIN, mailbox_id="b", local_part="ada", period=period, policy=FREE, now=start)
    shift = start - START
    fields: dict[str, Any] = {
        name: value + shift if isinstance(value, datetime) else value for name, value in FIELDS[status].items()
    }
    first = replace(first, status=status, next_subscription_period=following, **fields)
    daily: Mailbox | None = first
    for day in range(1, days + 1):
        now = start + timedelta(days=day)
        purge = daily.deletion_scheduled_at if daily else None
        daily = advance_fully(daily, now, policy, domain_of(status))
        if purge is not None:
            purged = daily is None or daily.purging
            assert purged == (purge <= now)
    assert advance_fully(first, start + timedelta(days=days), policy, domain_of(status)) == daily


RULES: list[tuple[str, Callable[[Mailbox, datetime], Mailbox | None]]] = [
    ("delete", lambda value, now: delete_mailbox(value, RETENTION, now)),
    ("restore", lambda value, now: restore_mailbox(value, D.READY, FREE, now)),
    ("advance", lambda value, now: advance_mailbox(value, D.READY, FREE, now)),
    ("leave waiting_domain", leave_waiting_domain),
    *(
        (f"to {period}", partial(lambda value, now, period: change(value, period=period, now=now), period=period))
        for period in P
    ),
]


@settings(deadline=None)
@given(
    period=st.sampled_from([P.MONTHLY, P.YEARLY]),
    steps=st.lists(
        st.tuples(st.sampled_from(RULES), st.integers(min_value=0, max_value=40 * 24)), min_size=1, max_size=30
    ),
)
def test_a_mailbox_is_consistent_after_any_sequence_of_rules(
    period: SubscriptionPeriod, steps: list[tuple[tuple[str, Callable[[Mailbox, datetime], Mailbox | None]], int]]
) -> None:
    value, now = mailbox(period=period), START
    for (_name, rule), hours in steps:
        now += timedelta(hours=hours)
        try:
            changed = rule(value, now)
        except PostroomError:
            continue
        if changed is None:  # purged
            assert value.deletion_scheduled_at is not None
            assert value.deletion_scheduled_at <= now
            return
        value = changed
        assert (value.status is M.DELETION_SCHEDULED) == (value.deletion_scheduled_at is not None)
        assert (value.subscription_period is P.CANCELED) == (value.next_subscription_period_starts_at is None)
        assert value.subscription_period is not P.CANCELED or value.status is M.DELETION_SCHEDULED
        assert value.last_paid_period is not P.CANCELED
        assert value.updated_at <= now
        assert value.created_at == START
