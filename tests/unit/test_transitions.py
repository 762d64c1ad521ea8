"""Which status follows which, on every event: the tables, that all of them is reached, and the rules of domains."""

from dataclasses import replace

import pytest

from postroomd.domain.aliases import require_aliases_allowed
from postroomd.domain.domains import begin_validation, move_domain, require_mailboxes_allowed
from postroomd.domain.errors import Precondition, PreconditionFailed, TransientState
from postroomd.domain.events import DomainEvent, MailboxEvent
from postroomd.domain.mailboxes import new_mailbox
from postroomd.domain.model import DomainStatus, MailboxStatus, SubscriptionPeriod
from postroomd.domain.transitions import DOMAIN_TRANSITIONS, MAILBOX_TRANSITIONS
from tests.support.lifecycle import DOMAIN, FREE, NOW, domain, mailbox

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod

# --- The tables -------------------------------------------------------------------------------------------------------

MAILBOX_TABLE = """
create              -                   waiting_payment waiting_domain creating ready
domain_ready        waiting_domain      creating restoring ready
provisioned         creating            ready
provisioned         restoring           ready
renewal_due         working             renewing
payment_confirmed   waiting_payment     working
payment_confirmed   renewing            working
payment_confirmed   payment_failed      working
payment_confirmed   locked              working
payment_refused     waiting_payment     payment_failed
payment_refused     renewing            payment_failed
payment_overdue     waiting_payment     payment_failed
payment_overdue     renewing            payment_failed
payment_grace_over  payment_failed      locked
suspension_over     locked              deletion_scheduled
cancellation_due    kept                deletion_scheduled
lock                working             locked
lock                unpaid              locked
unlock              locked              working unpaid
delete              kept                deletion_scheduled
reactivate          deletion_scheduled  working waiting_payment locked
restore             deletion_scheduled  working waiting_payment locked
purge_due           deletion_scheduled  deleting -
domain_deleted      kept                deleting
domain_deleted      deletion_scheduled  deleting
purged              deleting            -
"""

GROUPS = {
    "working": "waiting_domain creating restoring ready",
    "unpaid": "waiting_payment renewing payment_failed",
    "kept": "waiting_domain creating restoring ready waiting_payment renewing payment_failed locked",
}

DOMAIN_TABLE = """
                   created            validate   records_valid records_missing    records_invalid   provisioned delete
creating           waiting_validation .          .             .                  .                 .           deleting
waiting_validation .                  validating .             .                  .                 .           deleting
validating         .                  .          provisioning  waiting_validation validation_failed .           deleting
validation_failed  .                  validating .             .                  .                 .           deleting
provisioning       .                  .          .             .                  .                 ready       deleting
ready              .                  .          .             .                  .                 .           deleting
deleting           .                  .          .             .                  .                 .           .
"""


def cells(table: str) -> dict[tuple[str, str], str]:
    """(event, status) -> next status, or `.` where the pair is no transition."""
    events, *rows = (line.split() for line in table.strip("\n").splitlines())
    return {(event, row[0]): following for row in rows for event, following in zip(events, row[1:], strict=True)}


Step = tuple[MailboxEvent, MailboxStatus | None, MailboxStatus | None]


def tabled() -> set[Step]:
    """Every step of MAILBOX_TABLE."""

    def statuses(words: str) -> list[MailboxStatus | None]:
        names = " ".join(GROUPS.get(word, word) for word in words.split()).split()
        return [None if name == "-" else MailboxStatus(name) for name in names]

    lines = (line.split(maxsplit=2) for line in MAILBOX_TABLE.strip().splitlines())
    return {
        (MailboxEvent(event), before, after)
        for event, froms, tos in lines
        for before in statuses(froms)
        for after in statuses(tos)
    }


def test_mailboxes_move_as_the_table_says() -> None:
    steps = {
        (event, before, after)
        for event, moves in MAILBOX_TRANSITIONS.items()
        for before, following in moves.items()
        for after in following
    }
    assert steps == tabled()
    assert {event for event, _, _ in steps} == set(MailboxEvent)


@pytest.mark.parametrize(("event", "status"), [(event, status) for event in DomainEvent for status in DomainStatus])
def test_every_event_moves_a_domain_as_the_table_says(event: DomainEvent, status: DomainStatus) -> None:
    expected = cells(DOMAIN_TABLE)[event.value, status.value]
    assert DOMAIN_TRANSITIONS[event].get(status, ".") == expected
    before = domain(status)
    moved = move_domain(before, event, NOW)
    if expected == ".":
        assert moved is before
    else:
        assert moved == replace(before, status=DomainStatus(expected), updated_at=NOW)


def test_the_tables_name_every_event_and_status_there_is() -> None:
    assert len(cells(DOMAIN_TABLE)) == len(DomainEvent) * len(DomainStatus)


# --- Domains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [D.WAITING_VALIDATION, D.VALIDATION_FAILED])
def test_validation_begins_where_it_has_not_or_has_failed(status: DomainStatus) -> None:
    assert begin_validation(domain(status), NOW) == replace(domain(status), status=D.VALIDATING, updated_at=NOW)


@pytest.mark.parametrize("status", [D.VALIDATING, D.READY])
def test_validation_leaves_a_validating_or_ready_domain_as_it_is(status: DomainStatus) -> None:
    before = domain(status)
    assert begin_validation(before, NOW) is before


@pytest.mark.parametrize("status", [D.CREATING, D.PROVISIONING, D.DELETING])
def test_validation_has_to_wait_for_a_state_that_passes(status: DomainStatus) -> None:
    with pytest.raises(TransientState) as caught:
        begin_validation(domain(status), NOW)
    assert caught.value.current_state == status
    assert (caught.value.resource.type, caught.value.resource.id) == ("domain", DOMAIN.id)


@pytest.mark.parametrize("status", DomainStatus)
def test_mailboxes_are_made_in_a_domain_of_any_status_but_deleting(status: DomainStatus) -> None:
    if status is not D.DELETING:
        require_mailboxes_allowed(domain(status))
        return
    with pytest.raises(PreconditionFailed) as caught:
        require_mailboxes_allowed(domain(status))
    assert caught.value.subject.id == DOMAIN.id
    assert caught.value.precondition is Precondition.UNKNOWN_PRECONDITION
    with pytest.raises(PreconditionFailed):
        new_mailbox(domain(status), mailbox_id="b", local_part="ada", period=P.MONTHLY, policy=FREE, now=NOW)


@pytest.mark.parametrize("status", MailboxStatus)
def test_aliases_are_made_of_a_mailbox_that_is_ready_locked_or_waiting(status: MailboxStatus) -> None:
    if status in {M.READY, M.LOCKED, M.WAITING_DOMAIN, M.WAITING_PAYMENT, M.CREATING}:
        require_aliases_allowed(mailbox(status))
        return
    with pytest.raises(PreconditionFailed, match=status.value) as caught:
        require_aliases_allowed(mailbox(status))
    assert (caught.value.subject.type, caught.value.subject.id) == ("mailbox", mailbox().id)
