"""The transition tables."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from postroomd.domain.aliases import ALIAS_TRANSITIONS
from postroomd.domain.domains import DOMAIN_TRANSITIONS
from postroomd.domain.events import AliasEvent, DomainEvent, ForwardingEvent, MailboxEvent
from postroomd.domain.forwardings import FORWARDING_TRANSITIONS
from postroomd.domain.mailbox_status import MAILBOX_TRANSITIONS
from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, MailboxStatus
from postroomd.domain.transitions import IllegalTransition, check_transition

M = MailboxStatus

# Each line: an event, the status before it (`-` for none) and the possible ones after it.
MAILBOX_TABLE = """
create              -                   waiting_payment waiting_domain creating ready
domain_ready        waiting_domain      creating restoring ready
domain_lost         creating            waiting_domain
domain_lost         restoring           waiting_domain
domain_lost         ready               waiting_domain
provisioned         creating            ready waiting_domain
provisioned         restoring           ready waiting_domain
provisioned         waiting_domain      ready
renewal_due         in_use              renewing
payment_confirmed   waiting_payment     in_use
payment_confirmed   renewing            in_use
payment_confirmed   payment_failed      in_use
payment_confirmed   locked              in_use
payment_refused     waiting_payment     payment_failed
payment_refused     renewing            payment_failed
payment_overdue     waiting_payment     payment_failed
payment_overdue     renewing            payment_failed
payment_grace_over  payment_failed      locked
suspension_over     locked              deletion_scheduled
cancellation_due    kept                deletion_scheduled
lock                in_use              locked
lock                unpaid              locked
unlock              locked              in_use unpaid
delete              kept                deletion_scheduled
reactivate          deletion_scheduled  in_use waiting_payment locked
restore             deletion_scheduled  in_use waiting_payment locked
purge_due           deletion_scheduled  deleting -
domain_deleted      kept                deleting
domain_deleted      deletion_scheduled  deleting
purged              deleting            -
"""

GROUPS = {
    "in_use": "waiting_domain creating restoring ready",
    "unpaid": "waiting_payment renewing payment_failed",
    "kept": "waiting_domain creating restoring ready waiting_payment renewing payment_failed locked",
}

DOMAIN_TABLE = """
create              -                   creating waiting_validation
provisioned         creating            waiting_validation
validate            waiting_validation  validating
validate            validation_failed   validating
records_valid       validating          provisioning
records_missing     validating          waiting_validation
records_invalid     validating          validation_failed
activate            provisioning        ready
ownership_lost      provisioning        waiting_validation
ownership_lost      ready               waiting_validation
ownership_restored  waiting_validation  provisioning
ownership_restored  validation_failed   provisioning
delete              creating            deleting
delete              waiting_validation  deleting
delete              validating          deleting
delete              validation_failed   deleting
delete              provisioning        deleting
delete              ready               deleting
purged              deleting            -
"""

ALIAS_TABLE = """
create              -                   provisioning ready
provisioned         provisioning        ready
delete              provisioning        deleting
delete              ready               deleting
domain_deleted      provisioning        deleting
domain_deleted      ready               deleting
purged              deleting            -
"""

FORWARDING_TABLE = """
create              -                   provisioning ready
update              ready               updating
provisioned         provisioning        ready
provisioned         updating            ready
delete              provisioning        deleting
delete              ready               deleting
delete              updating            deleting
domain_deleted      provisioning        deleting
domain_deleted      ready               deleting
domain_deleted      updating            deleting
purged              deleting            -
"""

Transition = tuple[StrEnum, StrEnum | None, StrEnum | None]


def parse(table: str, events: type[StrEnum], statuses: type[StrEnum]) -> set[Transition]:
    """The transitions of one of the tables above."""

    def parse_statuses(words: str) -> list[StrEnum | None]:
        names = " ".join(GROUPS.get(word, word) for word in words.split()).split()
        return [None if name == "-" else statuses(name) for name in names]

    lines = (line.split(maxsplit=2) for line in table.strip().splitlines())
    return {
        (events(event), before, after)
        for event, befores, afters in lines
        for before in parse_statuses(befores)
        for after in parse_statuses(afters)
    }


@pytest.mark.parametrize(
    ("table", "expected", "events", "statuses"),
    [
        (DOMAIN_TRANSITIONS, DOMAIN_TABLE, DomainEvent, DomainStatus),
        (MAILBOX_TRANSITIONS, MAILBOX_TABLE, MailboxEvent, MailboxStatus),
        (ALIAS_TRANSITIONS, ALIAS_TABLE, AliasEvent, AliasStatus),
        (FORWARDING_TRANSITIONS, FORWARDING_TABLE, ForwardingEvent, ForwardingStatus),
    ],
    ids=["domain", "mailbox", "alias", "forwarding"],
)
def test_each_resource_has_these_transitions(
    table: Mapping[Any, Mapping[Any, frozenset[Any]]], expected: str, events: type[StrEnum], statuses: type[StrEnum]
) -> None:
    transitions = {
        (event, before, after)
        for event, by_status in table.items()
        for before, following in by_status.items()
        for after in following
    }
    assert transitions == parse(expected, events, statuses)
    assert {event for event, _, _ in transitions} == set(events)


def test_a_transition_outside_the_table_is_illegal() -> None:
    check_transition(MAILBOX_TRANSITIONS, MailboxEvent.LOCK, M.READY, M.LOCKED)
    with pytest.raises(IllegalTransition, match="lock: no transition from deleting to locked"):
        check_transition(MAILBOX_TRANSITIONS, MailboxEvent.LOCK, M.DELETING, M.LOCKED)
