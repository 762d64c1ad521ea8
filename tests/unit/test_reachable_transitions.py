"""Every step of the table is taken by some sequence of the rules: none stands there for nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from postroomd.domain.errors import PostroomError
from postroomd.domain.events import MailboxEvent, PaymentStanding
from postroomd.domain.mailboxes import (
    admit_mailbox,
    advance_mailbox,
    delete_mailbox,
    due_at,
    lock_mailbox,
    new_mailbox,
    purge_with_domain,
    restore_mailbox,
    unlock_mailbox,
    update_mailbox,
)
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import Payment, confirm_payment, payment_id, refuse_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import awaited_provision, confirm_provision
from postroomd.domain.transitions import MAILBOX_TRANSITIONS
from tests.support.lifecycle import BILLED, BOTH, DOMAIN, FREE, PLATFORM, START

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod
PATIENT = replace(BILLED, payment_term=timedelta(days=80))  # awaits a payment for longer than a month

Step = tuple[MailboxEvent, MailboxStatus | None, MailboxStatus | None]


@dataclass(frozen=True)
class Place:
    """A mailbox, where its domain stands, and when."""

    mailbox: Mailbox
    domain_status: DomainStatus
    now: datetime

    @property
    def kind(self) -> object:
        """What tells one place from another, but for its dates."""
        box, due = self.mailbox, due_at(self.mailbox)
        periods = (box.subscription_period, box.next_subscription_period)
        ends = box.next_subscription_period_starts_at
        facts = (box.status, box.purging, box.deletion_scheduled_at is None, box.lock_reason, box.payment)
        over = (due is not None and due <= self.now, ends is not None and ends <= self.now)
        return (self.domain_status, periods, facts, box.provision, box.provision_id is None, over)


def neighbors(place: Place, policy: LifecyclePolicy) -> Iterator[Place | MailboxEvent]:
    """Where each rule leads from a place: to another, or, as the event alone, to where the mailbox is no more."""
    box, status, now = place.mailbox, place.domain_status, place.now
    payment = Payment(
        id=payment_id(box),
        organization_id=box.organization_id,
        project_id=box.project_id,
        mailbox_id=box.id,
        period=box.subscription_period,
        period_started_at=box.subscription_period_started_at,
        requested_at=now,
        overdue_at=now,
    )

    def after(mailbox: Mailbox | None) -> Place | MailboxEvent:
        if mailbox is None:
            return MailboxEvent.PURGED if box.purging else MailboxEvent.PURGE_DUE
        return replace(place, mailbox=replace(mailbox, revision=1))

    def periods(period: SubscriptionPeriod) -> Mailbox:
        return update_mailbox(box, status, period=period, new_password=False, policy=policy, now=now)

    rules: list[Callable[[], Mailbox | None]] = [
        lambda: delete_mailbox(box, policy.retention, now),
        lambda: restore_mailbox(box, status, policy, now),
        lambda: lock_mailbox(box, status, reason="abuse", now=now),
        lambda: unlock_mailbox(box, status, now=now),
        lambda: periods(P.CANCELED),
        lambda: periods(P.MONTHLY),
        lambda: advance_mailbox(box, status, policy, now),
    ]
    if box.payment is not PaymentStanding.SETTLED:
        rules.append(lambda: confirm_payment(payment, box, status, now=now)[1])
        rules.append(lambda: refuse_payment(payment, box, status, reason="no", policy=policy, now=now)[1])
    work = awaited_provision(box, now)
    if work is not None:
        rules.append(lambda: confirm_provision(work, box, status, now=now)[1])  # type: ignore[arg-type, return-value]
    if status is D.READY:
        rules.append(lambda: admit_mailbox(box, now))
    if box.purging:
        rules.append(lambda: purge_with_domain(box, policy))
    for rule in rules:
        try:
            yield after(rule())
        except PostroomError:
            continue
    yield replace(place, domain_status=D.READY)
    if not box.purging:
        yield after(replace(box, purging=True, status=M.DELETING, cause=MailboxEvent.DOMAIN_DELETED))
    if (due := due_at(box)) is not None and due > now:
        yield replace(place, now=due)
    ends = box.next_subscription_period_starts_at
    if ends is not None and ends > now:
        yield replace(place, now=ends)


def reached(created: LifecyclePolicy, policy: LifecyclePolicy, domain_status: DomainStatus) -> set[Step]:
    """Every step that some sequence of rules takes, of a mailbox that may have been created on other policy."""
    first = new_mailbox(
        replace(DOMAIN, status=domain_status),
        mailbox_id="b",
        local_part="a",
        period=P.MONTHLY,
        policy=created,
        now=START,
    )
    steps: set[Step] = {(MailboxEvent.CREATE, None, first.status)}
    places = [Place(first, domain_status, START)]
    seen = {places[0].kind}
    while places:
        place = places.pop()
        for neighbor in neighbors(place, policy):
            if isinstance(neighbor, MailboxEvent):
                steps.add((neighbor, place.mailbox.status, None))
                continue
            if neighbor.mailbox.status is not place.mailbox.status:
                steps.add((neighbor.mailbox.cause, place.mailbox.status, neighbor.mailbox.status))
            if neighbor.kind not in seen:
                seen.add(neighbor.kind)
                places.append(neighbor)
    return steps


def test_the_rules_take_every_step_of_the_table_and_no_other() -> None:
    taken = {
        step
        for policy in (FREE, BILLED, PATIENT, PLATFORM, BOTH, replace(PATIENT, provisioning=True))
        for created in (FREE, policy)
        for status in (D.READY, D.VALIDATING)
        for step in reached(created, policy, status)
    }
    tabled = {
        (event, before, after)
        for event, moves in MAILBOX_TRANSITIONS.items()
        for before, following in moves.items()
        for after in following
    }
    assert taken - tabled == set()
    assert tabled - taken == set()
