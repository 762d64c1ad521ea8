"""The transition tables as Markdown.

`python -m tools.lifecycle_diagram docs/lifecycle.md` writes them into the document: for each resource Mermaid state
diagrams and tables of events, between two comments. The rest of the document is unchanged.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from postroomd.domain.aliases import ALIAS_TRANSITIONS
from postroomd.domain.domains import DOMAIN_TRANSITIONS
from postroomd.domain.events import AliasEvent, DomainEvent, ForwardingEvent, MailboxEvent
from postroomd.domain.forwardings import FORWARDING_TRANSITIONS
from postroomd.domain.mailbox_status import MAILBOX_TRANSITIONS
from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, MailboxStatus
from postroomd.domain.transitions import TransitionTable

END = "<!-- end of lifecycle -->\n"

Descriptions = Mapping[Any, str]
"""A sentence for each event."""

DOMAIN_EVENTS: Descriptions = {
    DomainEvent.CREATE: "CreateDomain.",
    DomainEvent.PROVISIONED: "ConfirmProvision: the mail platform has created it.",
    DomainEvent.VALIDATE: "ValidateDomainRecords requests a lookup.",
    DomainEvent.RECORDS_VALID: "All required records are valid, the validation token among them.",
    DomainEvent.RECORDS_MISSING: "A required record is absent, or its lookup was not answered.",
    DomainEvent.RECORDS_INVALID: "A required record is wrong and none missing, or another organization owns the name.",
    DomainEvent.ACTIVATE: "The worker activates it, and the mailboxes that wait for it.",
    DomainEvent.OWNERSHIP_LOST: "Its validation token is absent for the grace period, or replaced by another's.",
    DomainEvent.OWNERSHIP_RESTORED: "A periodic lookup finds its validation token and the other required records.",
    DomainEvent.DELETE: "DeleteDomain.",
    DomainEvent.PURGED: "It is removed after its mailboxes, and the mail platform's confirmation if there is one.",
}
MAILBOX_EVENTS: Mapping[str, Descriptions] = {
    "Creation": {
        MailboxEvent.CREATE: "BatchCreateMailboxes.",
        MailboxEvent.DOMAIN_READY: "Its domain has become ready.",
        MailboxEvent.DOMAIN_LOST: "Its domain has lost the ownership of its name.",
        MailboxEvent.PROVISIONED: "ConfirmProvision: the mail platform has created or restored it.",
    },
    "Payments": {
        MailboxEvent.RENEWAL_DUE: "A period has ended, and the payment of the next one is awaited.",
        MailboxEvent.PAYMENT_CONFIRMED: "ConfirmPayment.",
        MailboxEvent.PAYMENT_REFUSED: "RefusePayment.",
        MailboxEvent.PAYMENT_OVERDUE: "The payment term has passed.",
        MailboxEvent.PAYMENT_GRACE_OVER: "The payment grace has passed without a payment.",
        MailboxEvent.SUSPENSION_OVER: "The suspension grace has passed without a payment.",
    },
    "Locks": {
        MailboxEvent.LOCK: "LockMailbox.",
        MailboxEvent.UNLOCK: "UnlockMailbox.",
    },
    "Deletion and restore": {
        MailboxEvent.DELETE: "DeleteMailbox.",
        MailboxEvent.CANCELLATION_DUE: "The last period of a canceled subscription has ended.",
        MailboxEvent.RESTORE: "RestoreMailbox.",
        MailboxEvent.REACTIVATE: "UpdateMailbox sets a period again after the cancellation.",
        MailboxEvent.PURGE_DUE: "The retention has passed.",
        MailboxEvent.DOMAIN_DELETED: "DeleteDomain.",
        MailboxEvent.PURGED: "It is removed permanently, after the mail platform's confirmation if there is one.",
    },
}
ALIAS_EVENTS: Descriptions = {
    AliasEvent.CREATE: "CreateAlias.",
    AliasEvent.PROVISIONED: "ConfirmProvision: the mail platform has created it.",
    AliasEvent.DELETE: "DeleteAlias.",
    AliasEvent.DOMAIN_DELETED: "DeleteDomain.",
    AliasEvent.PURGED: "It is removed permanently, after the mail platform's confirmation if there is one.",
}
FORWARDING_EVENTS: Descriptions = {
    ForwardingEvent.CREATE: "CreateForwarding.",
    ForwardingEvent.UPDATE: "UpdateForwarding, or UpdateMailboxForwarding for every forwarding of the mailbox.",
    ForwardingEvent.PROVISIONED: "ConfirmProvision: the mail platform has created or changed it.",
    ForwardingEvent.DELETE: "DeleteForwarding.",
    ForwardingEvent.DOMAIN_DELETED: "DeleteDomain.",
    ForwardingEvent.PURGED: "It is removed permanently, after the mail platform's confirmation if there is one.",
}


@dataclass(frozen=True, slots=True)
class Edge:
    """One transition: an event, and the statuses before and after it; None for a resource that does not exist."""

    event: StrEnum
    before: StrEnum | None
    after: StrEnum | None


def edges_of(table: TransitionTable[Any, Any], statuses: Iterable[StrEnum], events: Iterable[StrEnum]) -> list[Edge]:
    """Return all transitions of a table by these events, in the order of the events and of the statuses."""
    order: list[StrEnum | None] = [None, *statuses]
    return [
        Edge(event, before, after)
        for event in events
        for before in sorted(table[event], key=order.index)
        for after in sorted(table[event][before], key=order.index)
    ]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The transitions of a resource, and the descriptions of its events by section title."""

    table: TransitionTable[Any, Any]
    statuses: type[StrEnum]
    sections: Mapping[str, Descriptions]

    def markdown(self) -> str:
        """Return a state diagram and a table of events for each section.

        Raises KeyError for an event of the table that has no description, or more than one.
        """
        described = [event for descriptions in self.sections.values() for event in descriptions]
        if set(described) != set(self.table) or len(described) != len(self.table):
            raise KeyError(*set(self.table).symmetric_difference(described))
        sections = ("\n".join(self._section(*section)) for section in self.sections.items())
        return "\n\n".join(sections) + "\n"

    def _section(self, title: str, descriptions: Descriptions) -> Iterator[str]:
        edges = edges_of(self.table, self.statuses, descriptions)
        if title:
            yield f"### {title}\n"
        yield from _diagram(edges)
        yield ""
        yield from _table(edges, descriptions)


LIFECYCLES: Mapping[str, Lifecycle] = {
    "domain": Lifecycle(DOMAIN_TRANSITIONS, DomainStatus, {"": DOMAIN_EVENTS}),
    "mailbox": Lifecycle(MAILBOX_TRANSITIONS, MailboxStatus, MAILBOX_EVENTS),
    "alias": Lifecycle(ALIAS_TRANSITIONS, AliasStatus, {"": ALIAS_EVENTS}),
    "forwarding": Lifecycle(FORWARDING_TRANSITIONS, ForwardingStatus, {"": FORWARDING_EVENTS}),
}
"""The lifecycle of each resource, by name."""


def _diagram(edges: Iterable[Edge]) -> Iterator[str]:
    events: dict[tuple[StrEnum | None, StrEnum | None], list[str]] = {}
    for edge in edges:
        events.setdefault((edge.before, edge.after), []).append(edge.event)
    yield "```mermaid"
    yield "stateDiagram-v2"
    for (before, after), names in events.items():
        yield f"    {before or '[*]'} --> {after or '[*]'}: {', '.join(names)}"
    yield "```"


def _table(edges: Iterable[Edge], descriptions: Descriptions) -> Iterator[str]:
    yield "| event | from | to | cause |"
    yield "|---|---|---|---|"
    statuses: dict[StrEnum, tuple[dict[str, None], dict[str, None]]] = {}
    for edge in edges:
        before, after = statuses.setdefault(edge.event, ({}, {}))
        before[f"`{edge.before}`" if edge.before else "(new)"] = None
        after[f"`{edge.after}`" if edge.after else "(gone)"] = None
    for event, (before, after) in statuses.items():
        yield f"| `{event}` | {', '.join(before)} | {', '.join(after)} | {descriptions[event]} |"


def regenerate(document: str) -> str:
    """Return a document with its lifecycle sections regenerated. Raises ValueError if one is missing."""
    for resource, lifecycle in LIFECYCLES.items():
        begin = f"<!-- lifecycle of {resource}: make diagram -->\n"
        head, has_begin, rest = document.partition(begin)
        _, has_end, tail = rest.partition(END)
        if not (has_begin and has_end):
            raise ValueError(f"the document has no section for the lifecycle of {resource}")
        document = f"{head}{begin}\n{lifecycle.markdown()}\n{END}{tail}"
    return document


def main() -> None:
    """Regenerate the document that the first argument names."""
    path = Path(sys.argv[1])
    path.write_text(regenerate(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
