"""What a period costs: what is awaited, what comes of it, and that no period is charged twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.domain.errors import PreconditionFailed
from postroomd.domain.events import MailboxEvent, PaymentStanding
from postroomd.domain.mailboxes import (
    advance_mailbox,
    delete_mailbox,
    due_at,
    lock_mailbox,
    new_mailbox,
    restore_mailbox,
    unlock_mailbox,
    update_mailbox,
)
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import (
    Payment,
    PaymentStatus,
    awaited_payment,
    confirm_payment,
    payment_id,
    refuse_payment,
)
from postroomd.domain.policy import LifecyclePolicy
from tests.support.lifecycle import BILLED, DOMAIN, FREE, MICROSECOND, START, domain

D, E, M, P, S = DomainStatus, MailboxEvent, MailboxStatus, SubscriptionPeriod, PaymentStanding
DAY = timedelta(days=1)
TERM, GRACE, SUSPENSION = BILLED.payment_term, BILLED.payment_grace, BILLED.suspension_grace


def billed(period: SubscriptionPeriod = P.MONTHLY, policy: LifecyclePolicy = BILLED) -> Mailbox:
    return new_mailbox(
        DOMAIN,
        mailbox_id="b0000000-0000-4000-8000-000000000000",
        local_part="ada",
        period=period,
        policy=policy,
        now=START,
    )


def asked(mailbox: Mailbox) -> Payment:
    """The payment that a mailbox waits for."""
    payment = awaited_payment(mailbox)
    assert payment is not None
    return payment


def paid(mailbox: Mailbox, now: datetime = START, payment: Payment | None = None) -> Mailbox:
    _, after = confirm_payment(payment or asked(mailbox), mailbox, D.READY, now=now)
    assert after is not None
    return after


def refused(mailbox: Mailbox, now: datetime = START) -> Mailbox:
    _, after = refuse_payment(asked(mailbox), mailbox, D.READY, reason="no cover", policy=BILLED, now=now)
    assert after is not None
    return after


def after(mailbox: Mailbox, now: datetime, policy: LifecyclePolicy = BILLED) -> Mailbox:
    """The mailbox once every step has been taken that is due at `now`."""
    while (moved := advance_mailbox(mailbox, D.READY, policy, now)) is not mailbox:
        assert moved is not None
        mailbox = moved
    return mailbox


def ends(mailbox: Mailbox) -> datetime:
    found = mailbox.next_subscription_period_starts_at
    assert found is not None
    return found


# --- The first period -------------------------------------------------------------------------------------------------


def test_a_new_mailbox_waits_for_its_first_payment() -> None:
    made = billed()
    assert made.status is M.WAITING_PAYMENT
    assert asked(made) == Payment(
        id=payment_id(made),
        organization_id=made.organization_id,
        project_id=made.project_id,
        mailbox_id=made.id,
        period=P.MONTHLY,
        period_started_at=START,
        requested_at=START,
        overdue_at=START + TERM,
    )


def test_without_billing_nothing_is_awaited() -> None:
    made = billed(policy=FREE)
    assert made.status is M.READY
    assert awaited_payment(made) is None
    assert awaited_payment(after(made, ends(made), FREE)) is None


def test_what_is_paid_is_ready_or_waits_for_its_domain() -> None:
    made = billed()
    payment, settled = confirm_payment(asked(made), made, D.READY, now=START + DAY)
    assert payment == replace(asked(made), status=PaymentStatus.CONFIRMED, settled_at=START + DAY)
    assert settled == replace(
        made,
        status=M.READY,
        payment=S.SETTLED,
        payment_step_at=None,
        cause=E.PAYMENT_CONFIRMED,
        updated_at=START + DAY,
    )
    _, waiting = confirm_payment(asked(made), made, D.VALIDATING, now=START)
    assert waiting is not None
    assert waiting.status is M.WAITING_DOMAIN


def test_a_payment_is_confirmed_and_refused_once() -> None:
    made = billed()
    confirmed, settled = confirm_payment(asked(made), made, D.READY, now=START)
    again, same = confirm_payment(confirmed, settled, D.READY, now=START + DAY)
    assert again is confirmed
    assert same is settled
    with pytest.raises(PreconditionFailed, match="is confirmed"):
        refuse_payment(confirmed, settled, D.READY, reason="no", policy=BILLED, now=START)

    no, failed = refuse_payment(asked(made), made, D.READY, reason="no cover", policy=BILLED, now=START)
    assert (no.status, no.reason, no.settled_at) == (PaymentStatus.REFUSED, "no cover", START)
    again, same = refuse_payment(no, failed, D.READY, reason="another", policy=BILLED, now=START + DAY)
    assert again is no
    assert same is failed


def test_a_void_payment_is_neither_confirmed_nor_refused() -> None:
    made = billed()
    void = replace(asked(made), status=PaymentStatus.VOID)
    with pytest.raises(PreconditionFailed, match="is void"):
        confirm_payment(void, made, D.READY, now=START)
    with pytest.raises(PreconditionFailed, match="is void"):
        refuse_payment(void, made, D.READY, reason="no", policy=BILLED, now=START)


def test_a_payment_of_a_period_that_is_over_leaves_the_mailbox_as_it_is() -> None:
    made = billed()
    later = after(paid(made), ends(made))
    payment, same = confirm_payment(asked(made), later, D.READY, now=ends(made))
    assert payment.status is PaymentStatus.CONFIRMED
    assert same is later
    _, same = refuse_payment(asked(made), later, D.READY, reason="no", policy=BILLED, now=ends(made))
    assert same is later
    assert confirm_payment(asked(made), None, D.DELETING, now=START)[1] is None


# --- The way of the unpaid --------------------------------------------------------------------------------------------


def test_what_is_not_paid_fails_is_locked_and_scheduled_for_deletion_each_at_its_instant() -> None:
    made = billed()
    overdue, locked, leaving = START + TERM, START + TERM + GRACE, START + TERM + GRACE + SUSPENSION
    for instant, status, event in (
        (overdue, M.PAYMENT_FAILED, E.PAYMENT_OVERDUE),
        (locked, M.LOCKED, E.PAYMENT_GRACE_OVER),
        (leaving, M.DELETION_SCHEDULED, E.SUSPENSION_OVER),
    ):
        assert after(made, instant - MICROSECOND) is made
        made = after(made, instant)
        assert (made.status, made.cause, made.updated_at) == (status, event, instant)
    assert due_at(made) == made.deletion_scheduled_at == leaving + BILLED.retention
    assert advance_mailbox(made, D.READY, BILLED, leaving + BILLED.retention) is None


def test_a_refusal_fails_at_once_and_does_not_lengthen_what_is_failing() -> None:
    failed = refused(billed(), START + DAY)
    assert (failed.status, failed.payment_step_at) == (M.PAYMENT_FAILED, START + DAY + GRACE)
    overdue = after(billed(), START + TERM)
    payment = replace(asked(billed()), status=PaymentStatus.OVERDUE)
    _, same = refuse_payment(payment, overdue, D.READY, reason="no", policy=BILLED, now=START + TERM + DAY)
    assert same is overdue


@pytest.mark.parametrize("status", [PaymentStatus.PENDING, PaymentStatus.REFUSED, PaymentStatus.OVERDUE])
@pytest.mark.parametrize("days", [0, 8, 15])
def test_paying_in_between_restores(days: int, status: PaymentStatus) -> None:
    made = billed()
    payment = replace(asked(made), status=status)
    unpaid = after(made, START + days * DAY)
    settled = paid(unpaid, START + days * DAY, payment)
    assert settled.status is M.READY
    assert settled.subscription_period_started_at == START


def test_a_payment_settles_what_is_scheduled_for_deletion_and_leaves_it_there() -> None:
    made = billed()
    leaving = after(made, START + 28 * DAY)
    assert leaving.status is M.DELETION_SCHEDULED
    settled = paid(leaving, START + 28 * DAY, asked(made))
    assert settled == replace(leaving, payment=S.SETTLED)
    back = restore_mailbox(settled, D.READY, BILLED, ends(made) - MICROSECOND)
    assert back.status is M.READY


def test_a_refusal_while_deletion_is_scheduled_starts_no_clock() -> None:
    made = billed()
    gone = delete_mailbox(made, BILLED.retention, START)
    _, failed = refuse_payment(asked(made), gone, D.READY, reason="no", policy=BILLED, now=START)
    assert failed is not None
    assert due_at(failed) == failed.deletion_scheduled_at == START + BILLED.retention


def test_a_restore_awaits_the_same_payment_anew_while_its_period_runs() -> None:
    made = billed()
    gone = delete_mailbox(after(made, START + 8 * DAY), BILLED.retention, START + 8 * DAY)
    back = restore_mailbox(gone, D.READY, BILLED, START + 9 * DAY)
    assert back.status is M.WAITING_PAYMENT
    assert asked(back).id == payment_id(made)
    assert asked(back).overdue_at == START + 9 * DAY + TERM


def test_a_new_period_after_a_restore_has_a_new_payment() -> None:
    made = billed()
    gone = delete_mailbox(paid(made), BILLED.retention, ends(made) - DAY)
    back = restore_mailbox(gone, D.READY, BILLED, ends(made) + DAY)
    assert back.status is M.WAITING_PAYMENT
    assert asked(back).id != payment_id(made)


def test_a_reactivation_has_a_new_payment() -> None:
    leaving = update_mailbox(paid(billed()), D.READY, period=P.CANCELED, new_password=False, policy=BILLED, now=START)
    left = after(leaving, ends(leaving))
    assert left.status is M.DELETION_SCHEDULED
    back = update_mailbox(left, D.READY, period=P.YEARLY, new_password=False, policy=BILLED, now=ends(leaving))
    assert (back.status, back.payment) == (M.WAITING_PAYMENT, S.FIRST_AWAITED)
    assert asked(back).period is P.YEARLY


def test_where_periods_come_to_cost_nothing_what_is_unpaid_is_settled() -> None:
    unpaid = billed()
    settled = after(unpaid, START + TERM, FREE)
    assert (settled.status, settled.payment, settled.payment_step_at) == (M.READY, S.SETTLED, None)


# --- Renewals ---------------------------------------------------------------------------------------------------------


def test_a_renewal_is_awaited_from_its_instant() -> None:
    made = paid(billed())
    renewed = after(made, ends(made) + DAY)
    assert (renewed.status, renewed.cause, renewed.updated_at) == (M.RENEWING, E.RENEWAL_DUE, ends(made))
    assert renewed.subscription_period_started_at == ends(made)
    assert asked(renewed).requested_at == ends(made)
    assert asked(renewed).overdue_at == ends(made) + TERM
    assert asked(renewed).id != payment_id(made)


def test_no_further_period_begins_while_one_is_not_paid_and_what_is_paid_late_catches_up() -> None:
    patient = replace(BILLED, payment_term=timedelta(days=200))
    made = billed(policy=patient)
    assert after(made, START + 150 * DAY, patient) is made
    charged = [payment_id(made)]
    now = START + 150 * DAY
    while (later := after(paid(made, now), now, patient)).payment is not S.SETTLED:
        made = later
        charged.append(payment_id(made))
    assert later.subscription_period_started_at == datetime(2024, 5, 31, 12, 30, tzinfo=UTC)
    assert len(set(charged)) == len(charged) == 5  # from 31 January, 29 February, 31 March, 30 April, 31 May


def test_a_cancellation_that_is_due_costs_nothing() -> None:
    leaving = update_mailbox(paid(billed()), D.READY, period=P.CANCELED, new_password=False, policy=BILLED, now=START)
    left = after(leaving, ends(leaving))
    assert left.payment is S.SETTLED
    assert awaited_payment(left) is None


def test_a_last_period_ends_also_while_it_is_not_paid() -> None:
    patient = replace(BILLED, payment_term=timedelta(days=200))
    made = billed(policy=patient)
    leaving = update_mailbox(made, D.READY, period=P.CANCELED, new_password=False, policy=patient, now=START)
    left = after(leaving, ends(made), patient)
    assert (left.status, left.updated_at) == (M.DELETION_SCHEDULED, ends(made))


def test_the_operators_lock_stops_neither_the_calendar_nor_the_payments() -> None:
    locked = lock_mailbox(paid(billed()), D.READY, reason="abuse", now=START)
    renewed = after(locked, ends(locked))
    assert (renewed.status, renewed.payment) == (M.LOCKED, S.RENEWAL_AWAITED)
    assert unlock_mailbox(renewed, D.READY, now=ends(locked)).status is M.RENEWING
    failed = after(renewed, ends(locked) + TERM)
    assert (failed.status, failed.payment) == (M.LOCKED, S.FAILED)
    settled = paid(failed, ends(locked) + TERM, asked(renewed))
    assert (settled.status, settled.payment) == (M.LOCKED, S.SETTLED)
    assert unlock_mailbox(settled, D.READY, now=ends(locked) + TERM).status is M.READY


def test_unlocking_does_not_lift_a_suspension() -> None:
    suspended = after(billed(), START + TERM + GRACE)
    locked = lock_mailbox(suspended, D.READY, reason="abuse", now=START + TERM + GRACE)
    assert locked.status is M.LOCKED
    assert unlock_mailbox(locked, D.READY, now=START + TERM + GRACE).status is M.LOCKED
    assert unlock_mailbox(suspended, D.READY, now=START + TERM + GRACE) is suspended


def test_a_mailbox_of_an_unproved_domain_is_paid_for_all_the_same() -> None:
    made = new_mailbox(
        domain(D.WAITING_VALIDATION), mailbox_id="b", local_part="ada", period=P.MONTHLY, policy=BILLED, now=START
    )
    assert made.status is M.WAITING_PAYMENT


# --- A year down ------------------------------------------------------------------------------------------------------

STARTS = [
    datetime(2023, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2023, 12, 31, tzinfo=UTC),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2024, 1, 30, 6, tzinfo=UTC),
    datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC),
]


@settings(deadline=None, max_examples=60)
@given(
    start=st.sampled_from(STARTS) | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    period=st.sampled_from([P.MONTHLY, P.YEARLY]),
    following=st.sampled_from(sorted(P)),
    pays=st.lists(st.booleans(), max_size=14),
    hours=st.integers(min_value=1, max_value=500 * 24),
)
def test_a_worker_that_was_down_ends_where_one_does_that_ran_all_along(
    start: datetime, period: SubscriptionPeriod, following: SubscriptionPeriod, pays: list[bool], hours: int
) -> None:
    """Payments are settled by what the billing system thinks of each period, at the instant they are asked for."""

    def run(every: timedelta) -> tuple[Mailbox | None, list[str]]:
        mailbox: Mailbox | None = replace(
            new_mailbox(DOMAIN, mailbox_id="b", local_part="a", period=period, policy=BILLED, now=start),
            next_subscription_period=following,
        )
        now, end, charged = start, start + timedelta(hours=hours), []
        while True:
            while mailbox is not None:
                payment = awaited_payment(mailbox)
                if payment is not None and payment.id not in charged:
                    charged.append(payment.id)
                    if len(charged) <= len(pays):
                        pay = pays[len(charged) - 1]
                        outcome = (
                            confirm_payment(payment, mailbox, D.READY, now=payment.requested_at)
                            if pay
                            else refuse_payment(
                                payment, mailbox, D.READY, reason="no", policy=BILLED, now=payment.requested_at
                            )
                        )
                        mailbox = outcome[1]
                        continue
                moved = advance_mailbox(mailbox, D.READY, BILLED, now)
                if moved is mailbox:
                    break
                mailbox = moved
            if now >= end:
                return mailbox, charged
            now = min(now + every, end)

    assert run(timedelta(hours=hours)) == run(timedelta(days=1))
