"""What was acknowledged, kept outside the service, and held against what the database has."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import grpc

from bench.chaos.arena import Arena
from bench.chaos.audit import Contents, contents, miscounts
from bench.chaos.writes import Kind, Write

# Codes of answers after which nothing of the write may be there. After any other, it may be there, whole.
REFUSALS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
}


class Outcome(Enum):
    """What is known of a write."""

    UNKNOWN = auto()
    ACKNOWLEDGED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class Entry:
    """One write, and what came of it."""

    write: Write
    outcome: Outcome = Outcome.UNKNOWN
    ids: tuple[str, ...] = ()

    def acknowledge(self, response: object) -> None:
        """Note what the service has promised."""
        self.outcome = Outcome.ACKNOWLEDGED
        self.ids = self.write.ids(response)

    def fail(self, code: grpc.StatusCode) -> None:
        """Note that the service has refused, or that nobody knows."""
        self.outcome = Outcome.REFUSED if code in REFUSALS else Outcome.UNKNOWN


@dataclass(slots=True)
class Ledger:
    """Every write that was sent."""

    entries: list[Entry] = field(default_factory=list)

    def sent(self, write: Write) -> Entry:
        """Note a write before it is sent."""
        entry = Entry(write)
        self.entries.append(entry)
        return entry

    def counted(self) -> Counter[Outcome]:
        """How many writes came to what."""
        return Counter(entry.outcome for entry in self.entries)


def faults(entries: Iterable[Entry], contents: Contents) -> Iterator[str]:
    """Every way in which the database differs from what was promised for these writes."""
    for entry in entries:
        match entry.write.kind:
            case Kind.MAILBOXES:
                yield from _made(entry, contents.mailboxes)
            case Kind.ALIAS:
                yield from _made(entry, contents.aliases)
            case Kind.DELETION:
                yield from _deleted(entry, contents.deletions)


def unexplained(entries: Iterable[Entry], contents: Contents) -> Iterator[str]:
    """Whatever the database has that none of these writes, which are all there were, can have made."""
    named: dict[Kind, set[str]] = {kind: set() for kind in Kind}
    for entry in entries:
        if entry.outcome is not Outcome.REFUSED:
            named[entry.write.kind].update(entry.write.names)
    stored = {Kind.MAILBOXES: contents.mailboxes, Kind.ALIAS: contents.aliases, Kind.DELETION: contents.deletions}
    for kind, names in stored.items():
        for name in set(names) - named[kind]:
            yield f"{kind} {name} is there, and nobody wrote it"


def _made(entry: Entry, stored: Mapping[str, str]) -> Iterator[str]:
    present = tuple(stored[name] for name in entry.write.names if name in stored)
    what = f"{entry.write.kind} {', '.join(entry.write.names)}"
    match entry.outcome:
        case Outcome.ACKNOWLEDGED if present != entry.ids:
            yield f"acknowledged, and lost: {what}"
        case Outcome.REFUSED if present:
            yield f"refused, and there: {what}"
        case Outcome.UNKNOWN if 0 < len(present) < len(entry.write.names):
            yield f"half done: {what}"


def _deleted(entry: Entry, deletions: frozenset[str]) -> Iterator[str]:
    (mailbox_id,) = entry.write.names
    if entry.outcome is Outcome.ACKNOWLEDGED and mailbox_id not in deletions:
        yield f"acknowledged, and lost: the deletion of {mailbox_id}"
    if entry.outcome is Outcome.REFUSED and mailbox_id in deletions:
        yield f"refused, and done: the deletion of {mailbox_id}"


async def held_against(arena: Arena, ledger: Ledger) -> list[str]:
    """Every way in which the database breaks a promise, or its own counts."""
    stored = await contents(arena)
    return [
        *faults(ledger.entries, stored),
        *unexplained(ledger.entries, stored),
        *await miscounts(arena),
    ]
