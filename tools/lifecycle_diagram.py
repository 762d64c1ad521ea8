"""The transition tables as Markdown.

`python -m tools.lifecycle_diagram docs/lifecycle.md` writes them into the document.

For each resource a Mermaid state diagram and a table of its events stand between two comments; all else in the document
is left as it is.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from postroomd.domain.events import AliasEvent, DomainEvent, MailboxEvent
from postroomd.domain.model import AliasStatus, DomainStatus, MailboxStatus
from postroomd.domain.transitions import ALIAS_TRANSITIONS, DOMAIN_TRANSITIONS, MAILBOX_TRANSITIONS

END = "<!-- end of lifecycle -->\n"

Table = Mapping[Any, Mapping[Any, Collection[Any]]]
"""Event -> status -> the statuses that may follow; None is outside: not there yet, or not any more."""

Meanings = Mapping[Any, str]
"""What each event is, in a sentence."""

DOMAIN_EVENTS: Meanings = {
    DomainEvent.CREATED: "ConfirmProvision: the mail platform has made it.",
    DomainEvent.VALIDATE: "ValidateDomainRecords asks for a look-up.",
    DomainEvent.RECORDS_VALID: "All required records are there, and its own validation token.",
    DomainEvent.RECORDS_MISSING: "A required record is absent, or its lookup was not answered.",
    DomainEvent.RECORDS_INVALID: "A required record is wrong and none missing, or another organization owns the name.",
    DomainEvent.PROVISIONED: "It is taken into use, and its mailboxes with it.",
    DomainEvent.DELETE: "DeleteDomain.",
}
MAILBOX_EVENTS: Mapping[str, Meanings] = {
    "Coming into use": {
        MailboxEvent.CREATE: "BatchCreateMailboxes.",
        MailboxEvent.DOMAIN_READY: "Its domain has become ready.",
        MailboxEvent.PROVISIONED: "ConfirmProvision: the mail platform has made it, or opened it again.",
    },
    "Payments": {
        MailboxEvent.RENEWAL_DUE: "A period has ended, and the payment of the next one is awaited.",
        MailboxEvent.PAYMENT_CONFIRMED: "ConfirmPayment.",
        MailboxEvent.PAYMENT_REFUSED: "RefusePayment.",
        MailboxEvent.PAYMENT_OVERDUE: "The payment term has passed.",
        MailboxEvent.PAYMENT_GRACE_OVER: "The payment grace has passed, and it is still not paid.",
        MailboxEvent.SUSPENSION_OVER: "The suspension grace has passed, and it is still not paid.",
    },
    "Locks": {
        MailboxEvent.LOCK: "LockMailbox.",
        MailboxEvent.UNLOCK: "UnlockMailbox.",
    },
    "Going, and coming back": {
        MailboxEvent.DELETE: "DeleteMailbox.",
        MailboxEvent.CANCELLATION_DUE: "The last period of a canceled subscription has ended.",
        MailboxEvent.RESTORE: "RestoreMailbox.",
        MailboxEvent.REACTIVATE: "UpdateMailbox gives a canceled subscription a period again.",
        MailboxEvent.PURGE_DUE: "The retention has passed.",
        MailboxEvent.DOMAIN_DELETED: "DeleteDomain.",
        MailboxEvent.PURGED: "It goes for good, confirmed by the mail platform where there is one to wait for.",
    },
}
ALIAS_EVENTS: Meanings = {
    AliasEvent.CREATE: "CreateAlias.",
    AliasEvent.PROVISIONED: "ConfirmProvision: the mail platform has made it.",
    AliasEvent.DELETE: "DeleteAlias.",
    AliasEvent.DOMAIN_DELETED: "DeleteDomain.",
    AliasEvent.PURGED: "It goes for good, confirmed by the mail platform where there is one to wait for.",
}


@dataclass(frozen=True, slots=True)
class Edge:
    """One way from a status to another, by an event."""

    event: StrEnum
    before: StrEnum | None
    after: StrEnum | None


def edges_of(table: Table, statuses: Iterable[StrEnum], events: Iterable[StrEnum]) -> list[Edge]:
    """All ways of a table by these events, in the order of the events and of the statuses."""
    order: list[StrEnum | None] = [None, *statuses]
    return [
        Edge(event, before, after)
        for event in events
        for before in sorted(table[event], key=order.index)
        for after in sorted(table[event][before], key=order.index)
    ]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The transitions of a resource, and what its events are, by the titles of the parts they are told in."""

    table: Table
    statuses: type[StrEnum]
    parts: Mapping[str, Meanings]

    def markdown(self) -> str:
        """A state diagram and a table of events for each part. Raises KeyError for an event that is told nowhere."""
        told = [event for meanings in self.parts.values() for event in meanings]
        if set(told) != set(self.table) or len(told) != len(self.table):
            raise KeyError(*set(self.table).symmetric_difference(told))
        return "\n\n".join("\n".join(self._part(title, meanings)) for title, meanings in self.parts.items()) + "\n"

    def _part(self, title: str, meanings: Meanings) -> Iterator[str]:
        edges = edges_of(self.table, self.statuses, meanings)
        if title:
            yield f"### {title}\n"
        yield from _diagram(edges)
        yield ""
        yield from _table(edges, meanings)


LIFECYCLES: Mapping[str, Lifecycle] = {
    "domain": Lifecycle(
        {event: {before: [after] for before, after in ways.items()} for event, ways in DOMAIN_TRANSITIONS.items()},
        DomainStatus,
        {"": DOMAIN_EVENTS},
    ),
    "mailbox": Lifecycle(MAILBOX_TRANSITIONS, MailboxStatus, MAILBOX_EVENTS),
    "alias": Lifecycle(ALIAS_TRANSITIONS, AliasStatus, {"": ALIAS_EVENTS}),
}
"""Every resource's, by name."""


def _diagram(edges: Iterable[Edge]) -> Iterator[str]:
    events: dict[tuple[StrEnum | None, StrEnum | None], list[str]] = {}
    for edge in edges:
        events.setdefault((edge.before, edge.after), []).append(edge.event)
    yield "```mermaid"
    yield "stateDiagram-v2"
    for (before, after), names in events.items():
        yield f"    {before or '[*]'} --> {after or '[*]'}: {', '.join(names)}"
    yield "```"


def _table(edges: Iterable[Edge], meanings: Meanings) -> Iterator[str]:
    yield "| event | from | to | what it is |"
    yield "|---|---|---|---|"
    ways: dict[StrEnum, tuple[dict[str, None], dict[str, None]]] = {}
    for edge in edges:
        before, after = ways.setdefault(edge.event, ({}, {}))
        before[f"`{edge.before}`" if edge.before else "(new)"] = None
        after[f"`{edge.after}`" if edge.after else "(gone)"] = None
    for event, (before, after) in ways.items():
        yield f"| `{event}` | {', '.join(before)} | {', '.join(after)} | {meanings[event]} |"


def rewritten(document: str) -> str:
    """A document with its diagrams and tables made again. Raises ValueError where one has no place in it."""
    for resource, lifecycle in LIFECYCLES.items():
        begin = f"<!-- lifecycle of {resource}: make diagram -->\n"
        head, begun, rest = document.partition(begin)
        _, ended, tail = rest.partition(END)
        if not (begun and ended):
            raise ValueError(f"there is no place for the lifecycle of {resource}")
        document = f"{head}{begin}\n{lifecycle.markdown()}\n{END}{tail}"
    return document


def main() -> None:
    """Write the tables into the document that is named."""
    path = Path(sys.argv[1])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
