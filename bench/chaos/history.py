"""The history of writes and their outcomes, recorded outside the service and checked against the database."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import grpc

from bench.chaos.database import Contents, invariant_violations, read_contents
from bench.chaos.harness import ChaosHarness
from bench.chaos.writes import Kind, Write

# Status codes that guarantee that a write had no effect. After any other error it may have been applied, entirely.
REJECTIONS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
}


class WriteStatus(Enum):
    """What the client knows about a write."""

    UNKNOWN = auto()
    ACKNOWLEDGED = auto()
    REJECTED = auto()


@dataclass(slots=True)
class Entry:
    """A write and its status."""

    write: Write
    status: WriteStatus = WriteStatus.UNKNOWN
    ids: tuple[str, ...] = ()

    def acknowledge(self, response: object) -> None:
        """Record a successful response."""
        self.status = WriteStatus.ACKNOWLEDGED
        self.ids = self.write.ids(response)

    def fail(self, code: grpc.StatusCode) -> None:
        """Record an error."""
        self.status = WriteStatus.REJECTED if code in REJECTIONS else WriteStatus.UNKNOWN


@dataclass(slots=True)
class History:
    """Every write that was sent."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, write: Write) -> Entry:
        """Record a write before it is sent."""
        entry = Entry(write)
        self.entries.append(entry)
        return entry

    def count_by_status(self) -> Counter[WriteStatus]:
        """Return the number of writes by status."""
        return Counter(entry.status for entry in self.entries)


def broken_promises(entries: Iterable[Entry], contents: Contents) -> Iterator[str]:
    """Yield every contradiction between the status of a write and the database."""
    for entry in entries:
        match entry.write.kind:
            case Kind.MAILBOXES:
                yield from _check_creation(entry, contents.mailboxes)
            case Kind.ALIAS:
                yield from _check_creation(entry, contents.aliases)
            case Kind.DELETION:
                yield from _check_deletion(entry, contents.deletions)


def unexplained(entries: Iterable[Entry], contents: Contents) -> Iterator[str]:
    """Yield everything in the database that none of the writes can have caused. `entries` must be complete."""
    expected: dict[Kind, set[str]] = {kind: set() for kind in Kind}
    for entry in entries:
        if entry.status is not WriteStatus.REJECTED:
            expected[entry.write.kind].update(entry.write.names)
    stored = {Kind.MAILBOXES: contents.mailboxes, Kind.ALIAS: contents.aliases, Kind.DELETION: contents.deletions}
    for kind, names in stored.items():
        for name in set(names) - expected[kind]:
            yield f"stored without a write: {kind} {name}"


def _check_creation(entry: Entry, stored: Mapping[str, str]) -> Iterator[str]:
    present = tuple(stored[name] for name in entry.write.names if name in stored)
    what = f"{entry.write.kind} {', '.join(entry.write.names)}"
    match entry.status:
        case WriteStatus.ACKNOWLEDGED if present != entry.ids:
            yield f"acknowledged but lost: {what}"
        case WriteStatus.REJECTED if present:
            yield f"rejected but stored: {what}"
        case WriteStatus.UNKNOWN if 0 < len(present) < len(entry.write.names):
            yield f"stored in part: {what}"


def _check_deletion(entry: Entry, deletions: frozenset[str]) -> Iterator[str]:
    (mailbox_id,) = entry.write.names
    if entry.status is WriteStatus.ACKNOWLEDGED and mailbox_id not in deletions:
        yield f"acknowledged but lost: deletion of {mailbox_id}"
    if entry.status is WriteStatus.REJECTED and mailbox_id in deletions:
        yield f"rejected but stored: deletion of {mailbox_id}"


async def check(harness: ChaosHarness, history: History) -> list[str]:
    """Return every broken promise, unexplained row and violated invariant of the database."""
    contents = await read_contents(harness)
    return [
        *broken_promises(history.entries, contents),
        *unexplained(history.entries, contents),
        *await invariant_violations(harness),
    ]
