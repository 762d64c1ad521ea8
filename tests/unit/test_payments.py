"""The rules of payments: requests, outcomes, and one payment per period."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

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
    confirm_payment,
    payment_id,
    pending_payment,
    refuse_payment,
    retention_of,
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


def requested(mailbox: Mailbox) -> Payment:
    """The payment that a mailbox waits for."""
    payment = pending_payment(mailbox)
    assert payment is not None
    return payment


def paid(mailbox: Mailbox, now: datetime = START, payment: Payment | None = None) -> Mailbox:
    _, after = confirm_payment(payment or requested(mailbox), mailbox, D.READY, now=now)
    assert after is not None
    return after


def refused(mailbox: Mailbox, now: datetime = START) -> Mailbox:
    _, after = refuse_payment(requested(mailbox), mailbox, D.READY, reason="no cover", policy=BILLED, now=now)
    assert after is not None
    return after


def advanced(mailbox: Mailbox, now: datetime, policy: LifecyclePolicy = BILLED) -> Mailbox:
    """The mailbox after all steps that are due at `now`."""
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
    new = billed()
    assert new.status is M.WAITING_PAYMENT
    assert requested(new) == Payment(
        id=payment_id(new),
        organization_id=new.organization_id,
        project_id=new.project_id,
        mailbox_id=new.id,
        period=P.MONTHLY,
        period_started_at=None,
        requested_at=START,
        overdue_at=START + TERM,
    )


@pytest.mark.parametrize("period", [P.MONTHLY, P.YEARLY])
def test_a_subscription_has_no_period_before_its_first_payment(period: SubscriptionPeriod) -> None:
    for unpaid in (
        billed(period),
        refused(billed(period)),
        advanced(billed(period), START + TERM + GRACE + SUSPENSION),
        delete_mailbox(billed(period), DAY, START),
        restore_mailbox(delete_mailbox(billed(period), DAY, START), D.READY, BILLED, START),
        lock_mailbox(billed(period), D.READY, reason="abuse", now=START),
    ):
        assert unpaid.subscription_period is None
        assert (unpaid.subscription_period_started_at, unpaid.next_subscription_period_starts_at) == (None, None)
        assert unpaid.next_subscription_period is period
        assert unpaid.never_paid
        assert payment_id(unpaid) == payment_id(billed(period))


def test_the_first_period_starts_with_its_payment() -> None:
    at = datetime(2024, 3, 31, tzinfo=UTC)  # the calendar is anchored here, and not at the creation
    settled = paid(billed(), at)
    assert settled.subscription_period is settled.next_subscription_period is P.MONTHLY
    assert settled.period_anchor_at == settled.subscription_period_started_at == at
    assert ends(settled) == datetime(2024, 4, 30, tzinfo=UTC)
    assert ends(paid(advanced(settled, ends(settled)), ends(settled))) == datetime(2024, 5, 31, tzinfo=UTC)
    assert not settled.never_paid


def test_a_change_before_the_first_payment_concerns_what_follows_the_first_period() -> None:
    update = partial(update_mailbox, domain_status=D.READY, new_password=False, policy=BILLED, now=START)
    changed = update(billed(), period=P.YEARLY)
    assert (changed.subscription_period, changed.next_subscription_period) == (None, P.YEARLY)
    assert requested(changed).period is P.MONTHLY
    settled = paid(changed)
    assert (settled.subscription_period, settled.next_subscription_period) == (P.MONTHLY, P.YEARLY)
    assert advanced(settled, ends(settled)).subscription_period is P.YEARLY
    canceled = paid(update(billed(), period=P.CANCELED))
    assert advanced(canceled, ends(canceled)).status is M.DELETION_SCHEDULED


def test_without_billing_no_payment_is_requested() -> None:
    new = billed(policy=FREE)
    assert new.status is M.READY
    assert pending_payment(new) is None
    assert pending_payment(advanced(new, ends(new), FREE)) is None


def test_a_paid_mailbox_is_ready_or_waits_for_its_domain() -> None:
    new = billed()
    payment, settled = confirm_payment(requested(new), new, D.READY, now=START + DAY)
    assert payment == replace(
        requested(new), status=PaymentStatus.CONFIRMED, settled_at=START + DAY, period_started_at=START + DAY
    )
    assert settled == replace(
        new,
        status=M.READY,
        subscription_period=P.MONTHLY,
        period_anchor_at=START + DAY,
        subscription_period_started_at=START + DAY,
        next_subscription_period_starts_at=datetime(2024, 3, 1, 12, 30, tzinfo=UTC),
        payment=S.SETTLED,
        payment_step_at=None,
        cause=E.PAYMENT_CONFIRMED,
        updated_at=START + DAY,
    )
    _, waiting = confirm_payment(requested(new), new, D.VALIDATING, now=START)
    assert waiting is not None
    assert waiting.status is M.WAITING_DOMAIN


def test_a_payment_is_confirmed_or_refused_once() -> None:
    new = billed()
    confirmed, settled = confirm_payment(requested(new), new, D.READY, now=START)
    again, same = confirm_payment(confirmed, settled, D.READY, now=START + DAY)
    assert again is confirmed
    assert same is settled
    with pytest.raises(PreconditionFailed, match="is confirmed"):
        refuse_payment(confirmed, settled, D.READY, reason="no", policy=BILLED, now=START)

    no, failed = refuse_payment(requested(new), new, D.READY, reason="no cover", policy=BILLED, now=START)
    assert (no.status, no.reason, no.settled_at) == (PaymentStatus.REFUSED, "no cover", START)
    again, same = refuse_payment(no, failed, D.READY, reason="another", policy=BILLED, now=START + DAY)
    assert again is no
    assert same is failed


def test_a_void_payment_can_be_neither_confirmed_nor_refused() -> None:
    new = billed()
    void = replace(requested(new), status=PaymentStatus.VOID)
    with pytest.raises(PreconditionFailed, match="is void"):
        confirm_payment(void, new, D.READY, now=START)
    with pytest.raises(PreconditionFailed, match="is void"):
        refuse_payment(void, new, D.READY, reason="no", policy=BILLED, now=START)


def test_a_payment_of_an_earlier_period_does_not_change_the_mailbox() -> None:
    new = billed()
    later = advanced(paid(new), ends(paid(new)))
    payment, same = confirm_payment(requested(new), later, D.READY, now=START + 40 * DAY)
    assert payment.status is PaymentStatus.CONFIRMED
    assert payment.period_started_at is None
    assert same is later
    _, same = refuse_payment(requested(new), later, D.READY, reason="no", policy=BILLED, now=START + 40 * DAY)
    assert same is later
    assert confirm_payment(requested(new), None, D.DELETING, now=START)[1] is None


# --- Unpaid mailboxes -------------------------------------------------------------------------------------------------


def test_an_unpaid_mailbox_fails_is_locked_and_deleted_on_time() -> None:
    new = billed()
    overdue, locked, canceling = START + TERM, START + TERM + GRACE, START + TERM + GRACE + SUSPENSION
    for instant, status, event in (
        (overdue, M.PAYMENT_FAILED, E.PAYMENT_OVERDUE),
        (locked, M.LOCKED, E.PAYMENT_GRACE_OVER),
        (canceling, M.DELETION_SCHEDULED, E.SUSPENSION_OVER),
    ):
        assert advanced(new, instant - MICROSECOND) is new
        new = advanced(new, instant)
        assert (new.status, new.cause, new.updated_at) == (status, event, instant)
    assert due_at(new) == new.deletion_scheduled_at == canceling + BILLED.cancellation_retention
    assert advance_mailbox(new, D.READY, BILLED, canceling + BILLED.cancellation_retention) is None


def test_an_unpaid_renewal_has_the_retention_of_a_canceled_subscription() -> None:
    policy = replace(BILLED, deletion_retention=timedelta(minutes=10), cancellation_retention=timedelta(days=60))
    canceling = ends(paid(billed())) + TERM + GRACE + SUSPENSION
    suspended = advanced(paid(billed()), canceling - MICROSECOND)
    assert suspended.payment is S.SUSPENDED
    deleted = advance_mailbox(suspended, D.READY, policy, canceling)
    assert deleted is not None
    assert deleted.deletion_scheduled_at == canceling + timedelta(days=60)


def test_a_refusal_fails_a_mailbox_at_once_and_extends_no_grace_period() -> None:
    failed = refused(billed(), START + DAY)
    assert (failed.status, failed.payment_step_at) == (M.PAYMENT_FAILED, START + DAY + GRACE)
    overdue = advanced(billed(), START + TERM)
    payment = replace(requested(billed()), status=PaymentStatus.OVERDUE)
    _, same = refuse_payment(payment, overdue, D.READY, reason="no", policy=BILLED, now=START + TERM + DAY)
    assert same is overdue


@pytest.mark.parametrize("status", [PaymentStatus.PENDING, PaymentStatus.REFUSED, PaymentStatus.OVERDUE])
@pytest.mark.parametrize("days", [0, 8, 15])
def test_a_late_payment_brings_the_mailbox_back(days: int, status: PaymentStatus) -> None:
    new = billed()
    payment = replace(requested(new), status=status)
    unpaid = advanced(new, START + days * DAY)
    settled = paid(unpaid, START + days * DAY, payment)
    assert settled.status is M.READY
    assert settled.subscription_period_started_at == START + days * DAY


def test_a_payment_does_not_undo_a_scheduled_deletion() -> None:
    new = billed()
    canceling = advanced(new, START + 28 * DAY)
    assert canceling.status is M.DELETION_SCHEDULED
    assert not canceling.counts_towards_quota
    settled = paid(canceling, START + 29 * DAY, requested(new))
    assert settled.counts_towards_quota
    assert settled == replace(
        canceling,
        payment=S.SETTLED,
        subscription_period=P.MONTHLY,
        period_anchor_at=START + 29 * DAY,
        subscription_period_started_at=START + 29 * DAY,
        next_subscription_period_starts_at=datetime(2024, 3, 29, 12, 30, tzinfo=UTC),
        updated_at=START + 29 * DAY,
    )
    back = restore_mailbox(settled, D.READY, BILLED, ends(settled) - MICROSECOND)
    assert back.status is M.READY
    assert ends(back) == ends(settled)


def test_a_refusal_while_deletion_is_scheduled_makes_no_step_due() -> None:
    new = billed()
    deleted = delete_mailbox(new, BILLED.deletion_retention, START)
    _, failed = refuse_payment(requested(new), deleted, D.READY, reason="no", policy=BILLED, now=START)
    assert failed is not None
    assert due_at(failed) == failed.deletion_scheduled_at == START + BILLED.deletion_retention


def test_a_restore_before_the_first_payment_requests_it_again() -> None:
    new = billed()
    deleted = delete_mailbox(advanced(new, START + 8 * DAY), BILLED.deletion_retention, START + 8 * DAY)
    back = restore_mailbox(deleted, D.READY, BILLED, START + 9 * DAY)
    assert back.status is M.WAITING_PAYMENT
    assert requested(back).id == payment_id(new)
    assert requested(back).overdue_at == START + 9 * DAY + TERM


def test_a_restore_in_a_running_period_requests_its_payment_again_and_keeps_its_instants() -> None:
    renewed = advanced(paid(billed()), ends(paid(billed())))
    now = renewed.updated_at + DAY
    back = restore_mailbox(delete_mailbox(renewed, BILLED.deletion_retention, now), D.READY, BILLED, now)
    assert (back.status, back.payment) == (M.WAITING_PAYMENT, S.FIRST_AWAITED)
    assert requested(back).id == payment_id(renewed)
    for field in ("subscription_period", "subscription_period_started_at", "next_subscription_period_starts_at"):
        assert getattr(back, field) == getattr(renewed, field) is not None
        assert getattr(paid(back, now), field) == getattr(renewed, field)
    assert not delete_mailbox(back, DAY, now).never_paid


def test_a_restore_without_billing_starts_the_period_of_a_mailbox_that_was_never_paid_for() -> None:
    deleted = delete_mailbox(billed(P.YEARLY), BILLED.deletion_retention, START)
    back = restore_mailbox(deleted, D.READY, FREE, START + DAY)
    assert (back.status, back.payment, back.subscription_period) == (M.READY, S.SETTLED, P.YEARLY)
    assert back.subscription_period_started_at == back.updated_at == START + DAY


def test_a_restore_in_a_new_period_requests_a_new_payment() -> None:
    new = billed()
    ended = ends(paid(new))
    deleted = delete_mailbox(paid(new), BILLED.deletion_retention, ended - DAY)
    back = restore_mailbox(deleted, D.READY, BILLED, ended + DAY)
    assert back.status is M.WAITING_PAYMENT
    assert (back.subscription_period, back.subscription_period_started_at) == (None, None)
    assert requested(back).id != payment_id(new)
    assert not back.never_paid
    assert paid(back, ended + 3 * DAY).subscription_period_started_at == ended + 3 * DAY


def test_a_reactivation_requests_a_new_payment() -> None:
    canceling = update_mailbox(paid(billed()), D.READY, period=P.CANCELED, new_password=False, policy=BILLED, now=START)
    ended = advanced(canceling, ends(canceling))
    assert ended.status is M.DELETION_SCHEDULED
    back = update_mailbox(ended, D.READY, period=P.YEARLY, new_password=False, policy=BILLED, now=ends(canceling))
    assert (back.status, back.payment) == (M.WAITING_PAYMENT, S.FIRST_AWAITED)
    assert requested(back).period is P.YEARLY


def test_an_unpaid_mailbox_is_settled_once_billing_is_switched_off() -> None:
    unpaid = billed()
    settled = advanced(unpaid, START + TERM, FREE)
    assert (settled.status, settled.payment, settled.payment_step_at) == (M.READY, S.SETTLED, None)
    assert settled.subscription_period_started_at == START + TERM


# --- Renewals ---------------------------------------------------------------------------------------------------------


def test_a_renewal_requests_its_payment_at_the_start_of_the_period() -> None:
    new = paid(billed())
    renewed = advanced(new, ends(new) + DAY)
    assert (renewed.status, renewed.cause, renewed.updated_at) == (M.RENEWING, E.RENEWAL_DUE, ends(new))
    assert renewed.subscription_period_started_at == ends(new)
    assert requested(renewed).requested_at == ends(new)
    assert requested(renewed).overdue_at == ends(new) + TERM
    assert requested(renewed).id != payment_id(new)


def test_no_period_starts_while_one_is_unpaid_and_paying_catches_up() -> None:
    patient = replace(BILLED, payment_term=timedelta(days=200))
    new = advanced(paid(billed()), START + 31 * DAY, patient)  # unpaid from 29 February on
    assert advanced(new, START + 150 * DAY, patient) is new
    charged = [payment_id(new)]
    now = START + 150 * DAY
    while (later := advanced(paid(new, now), now, patient)).payment is not S.SETTLED:
        new = later
        charged.append(payment_id(new))
    assert later.subscription_period_started_at == datetime(2024, 5, 31, 12, 30, tzinfo=UTC)
    assert len(set(charged)) == len(charged) == 4  # from 29 February, 31 March, 30 April, 31 May


def test_the_end_of_a_canceled_subscription_requests_no_payment() -> None:
    canceling = update_mailbox(paid(billed()), D.READY, period=P.CANCELED, new_password=False, policy=BILLED, now=START)
    ended = advanced(canceling, ends(canceling))
    assert ended.payment is S.SETTLED
    assert pending_payment(ended) is None


def test_the_last_period_ends_even_if_it_is_unpaid() -> None:
    patient = replace(BILLED, payment_term=timedelta(days=200))
    new = advanced(paid(billed()), START + 31 * DAY, patient)
    canceling = update_mailbox(new, D.READY, period=P.CANCELED, new_password=False, policy=patient, now=START)
    ended = advanced(canceling, ends(new), patient)
    assert (ended.status, ended.updated_at) == (M.DELETION_SCHEDULED, ends(new))


def test_a_lock_stops_neither_renewals_nor_payments() -> None:
    locked = lock_mailbox(paid(billed()), D.READY, reason="abuse", now=START)
    renewed = advanced(locked, ends(locked))
    assert (renewed.status, renewed.payment) == (M.LOCKED, S.RENEWAL_AWAITED)
    assert unlock_mailbox(renewed, D.READY, now=ends(locked)).status is M.RENEWING
    failed = advanced(renewed, ends(locked) + TERM)
    assert (failed.status, failed.payment) == (M.LOCKED, S.FAILED)
    settled = paid(failed, ends(locked) + TERM, requested(renewed))
    assert (settled.status, settled.payment) == (M.LOCKED, S.SETTLED)
    assert unlock_mailbox(settled, D.READY, now=ends(locked) + TERM).status is M.READY


def test_an_unlock_does_not_end_a_suspension() -> None:
    suspended = advanced(billed(), START + TERM + GRACE)
    locked = lock_mailbox(suspended, D.READY, reason="abuse", now=START + TERM + GRACE)
    assert locked.status is M.LOCKED
    assert unlock_mailbox(locked, D.READY, now=START + TERM + GRACE).status is M.LOCKED
    assert unlock_mailbox(suspended, D.READY, now=START + TERM + GRACE) is suspended


def test_a_mailbox_of_a_domain_that_is_not_ready_has_to_be_paid_too() -> None:
    new = new_mailbox(
        domain(D.WAITING_VALIDATION), mailbox_id="b", local_part="ada", period=P.MONTHLY, policy=BILLED, now=START
    )
    assert new.status is M.WAITING_PAYMENT


# --- Catching up ------------------------------------------------------------------------------------------------------

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
def test_catching_up_has_the_same_result_as_running_all_along(
    start: datetime, period: SubscriptionPeriod, following: SubscriptionPeriod, pays: list[bool], hours: int
) -> None:
    """Each payment is confirmed or refused as `pays` says, at the instant at which it is requested."""

    def run(every: timedelta) -> tuple[Mailbox | None, list[str]]:
        mailbox: Mailbox | None = replace(
            new_mailbox(DOMAIN, mailbox_id="b", local_part="a", period=period, policy=BILLED, now=start),
            next_subscription_period=following,
        )
        now, end, charged = start, start + timedelta(hours=hours), []
        while True:
            while mailbox is not None:
                payment = pending_payment(mailbox)
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


def test_a_mailbox_that_was_never_paid_for_has_a_retention_of_its_own() -> None:
    policy = replace(BILLED, unpaid_retention=DAY)
    default = 2 * policy.deletion_retention
    unpaid = billed()
    failed = advanced(unpaid, START + TERM)
    suspended = advanced(failed, START + TERM + GRACE)
    settled = paid(unpaid)
    for mailbox in (unpaid, failed, suspended):
        assert retention_of(mailbox, policy, default) == DAY
        assert retention_of(mailbox, BILLED, default) == BILLED.deletion_retention
    renewal = settled.next_subscription_period_starts_at
    assert renewal is not None
    for mailbox in (settled, advanced(settled, renewal), billed(policy=FREE)):
        assert retention_of(mailbox, policy, default) == default
    due = START + TERM + GRACE + SUSPENSION
    deleted = advance_mailbox(suspended, D.READY, policy, due)
    assert deleted is not None
    assert deleted.deletion_scheduled_at == due + DAY
