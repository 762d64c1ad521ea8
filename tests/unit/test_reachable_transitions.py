"""Every transition of mailboxes in the table is reached by a sequence of rules, and no other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from postroomd.domain.errors import PostroomError
from postroomd.domain.events import MailboxEvent, PaymentStanding
from postroomd.domain.mailbox_status import MAILBOX_TRANSITIONS
from postroomd.domain.mailboxes import (
    advance_mailbox,
    delete_mailbox,
    due_at,
    follow_domain,
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
from postroomd.domain.provisioning import confirm_provision, pending_provision
from tests.support.lifecycle import BILLED, BOTH, DOMAIN, FREE, PLATFORM, START

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod
PATIENT = replace(BILLED, payment_term=timedelta(days=80))  # a payment term longer than a period

Transition = tuple[MailboxEvent, MailboxStatus | None, MailboxStatus | None]


@dataclass(frozen=True)
class State:
    """A mailbox, its domain's status, and the time."""

    mailbox: Mailbox
    domain_status: DomainStatus
    now: datetime

    @property
    def kind(self) -> object:
        """The state without its dates: states of one kind have the same transitions."""
        box, due = self.mailbox, due_at(self.mailbox)
        periods = (box.subscription_period, box.next_subscription_period)
        ends = box.next_subscription_period_starts_at
        fields = (box.status, box.purging, box.deletion_scheduled_at is None, box.lock_reason, box.payment)
        over = (due is not None and due <= self.now, ends is not None and ends <= self.now)
        return (self.domain_status, periods, fields, box.provision, box.provision_id is None, over)


def next_states(state: State, policy: LifecyclePolicy) -> Iterator[State | MailboxEvent]:
    """The states after each rule; the event only, if the rule purges the mailbox."""
    box, status, now = state.mailbox, state.domain_status, state.now
    payment = Payment(
        id=payment_id(box),
        organization_id=box.organization_id,
        project_id=box.project_id,
        mailbox_id=box.id,
        period=box.subscription_period or box.last_paid_period,
        period_started_at=box.subscription_period_started_at,
        requested_at=now,
        overdue_at=now,
    )

    def after(mailbox: Mailbox | None) -> State | MailboxEvent:
        if mailbox is None:
            return MailboxEvent.PURGED if box.purging else MailboxEvent.PURGE_DUE
        return replace(state, mailbox=replace(mailbox, revision=1))

    def set_period(period: SubscriptionPeriod) -> Mailbox:
        return update_mailbox(box, status, period=period, new_password=False, policy=policy, now=now)

    rules: list[Callable[[], Mailbox | None]] = [
        lambda: delete_mailbox(box, policy.deletion_retention, now),
        lambda: restore_mailbox(box, status, policy, now),
        lambda: lock_mailbox(box, status, reason="abuse", now=now),
        lambda: unlock_mailbox(box, status, now=now),
        lambda: set_period(P.CANCELED),
        lambda: set_period(P.MONTHLY),
        lambda: advance_mailbox(box, status, policy, now),
        lambda: follow_domain(box, status, now),
    ]
    if box.payment is not PaymentStanding.SETTLED:
        rules.append(lambda: confirm_payment(payment, box, status, now=now)[1])
        rules.append(lambda: refuse_payment(payment, box, status, reason="no", policy=policy, now=now)[1])
    provision = pending_provision(box, now)
    if provision is not None:
        rules.append(lambda: confirm_provision(provision, box, status, now=now)[1])  # type: ignore[arg-type, return-value]
    if box.purging:
        rules.append(lambda: purge_with_domain(box, policy))
    for rule in rules:
        try:
            yield after(rule())
        except PostroomError:
            continue
    # The mailbox follows its domain later, or another event comes first.
    yield replace(state, domain_status=D.WAITING_VALIDATION if status is D.READY else D.READY)
    if not box.purging:
        yield after(replace(box, purging=True, status=M.DELETING, cause=MailboxEvent.DOMAIN_DELETED))
    if (due := due_at(box)) is not None and due > now:
        yield replace(state, now=due)
    ends = box.next_subscription_period_starts_at
    if ends is not None and ends > now:
        yield replace(state, now=ends)


def reachable(created: LifecyclePolicy, policy: LifecyclePolicy, domain_status: DomainStatus) -> set[Transition]:
    """All transitions by sequences of rules under a policy, of a mailbox that was created under another."""
    first = new_mailbox(
        replace(DOMAIN, status=domain_status),
        mailbox_id="b",
        local_part="a",
        period=P.MONTHLY,
        policy=created,
        now=START,
    )
    transitions: set[Transition] = {(MailboxEvent.CREATE, None, first.status)}
    states = [State(first, domain_status, START)]
    seen = {states[0].kind}
    while states:
        state = states.pop()
        for following in next_states(state, policy):
            if isinstance(following, MailboxEvent):
                transitions.add((following, state.mailbox.status, None))
                continue
            if following.mailbox.status is not state.mailbox.status:
                transitions.add((following.mailbox.cause, state.mailbox.status, following.mailbox.status))
            if following.kind not in seen:
                seen.add(following.kind)
                states.append(following)
    return transitions


def test_the_rules_reach_every_transition_of_the_table_and_no_other() -> None:
    reached = {
        transition
        for policy in (FREE, BILLED, PATIENT, PLATFORM, BOTH, replace(PATIENT, provisioning=True))
        for created in (FREE, policy)
        for status in (D.READY, D.VALIDATING)
        for transition in reachable(created, policy, status)
    }
    tabled = {
        (event, before, after)
        for event, by_status in MAILBOX_TRANSITIONS.items()
        for before, following in by_status.items()
        for after in following
    }
    assert reached - tabled == set()
    assert tabled - reached == set()
