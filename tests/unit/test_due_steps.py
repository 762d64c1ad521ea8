"""The due steps of mailboxes without billing: renewals, cancellations, purges, catching up."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.domain.errors import PostroomError
from postroomd.domain.events import MailboxEvent
from postroomd.domain.mailboxes import (
    advance_mailbox,
    delete_mailbox,
    due_at,
    follow_domain,
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
    mailbox,
)

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod
E = MailboxEvent

change = partial(update_mailbox, domain_status=D.READY, new_password=False, policy=FREE, now=NOW)


def domain_of(status: MailboxStatus) -> DomainStatus:
    """The status of the domain of a mailbox with a status."""
    return D.VALIDATING if status is M.WAITING_DOMAIN else D.READY


@pytest.mark.parametrize("status", MailboxStatus)
def test_a_settled_mailbox_renews_unless_it_is_being_deleted(status: MailboxStatus) -> None:
    before = mailbox(status)
    renewal = mailbox().next_subscription_period_starts_at
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
    ("leave waiting_domain", lambda value, now: follow_domain(value, D.READY, now)),
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
