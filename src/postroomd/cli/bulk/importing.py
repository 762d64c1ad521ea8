"""Importing mailboxes: which rows are new, and their creation in batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from postroomd.cli.arguments import argument
from postroomd.cli.bulk.calls import CallFailed, NewMailbox, create_alias, create_forwarding, create_mailboxes
from postroomd.cli.bulk.csv_file import Row
from postroomd.cli.bulk.faults import Fault
from postroomd.cli.bulk.state import PresentDomain, PresentMailbox
from postroomd.cli.errors import explain_call

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

BATCH_OF_HASHES = 100
BATCH_OF_PASSWORDS = 20  # each takes about 30 ms of a core, and other callers' passwords wait meanwhile
CALLS_OF_HASHES = 4  # at the same time
CALLS_OF_PASSWORDS = 2
UNUSABLE = frozenset({"deletion_scheduled", "deleting"})


@dataclass(slots=True)
class Work:
    """What an import has to do: new rows, and rows whose mailbox exists, with what the mailbox lacks."""

    new: list[Row] = field(default_factory=list)
    existing: list[tuple[Row, PresentMailbox]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def missing(self) -> Iterator[tuple[Row, str, tuple[str, ...], tuple[str, ...]]]:
        """The rows whose mailbox exists and lacks aliases or forwardings: row, mailbox id, and what it lacks."""
        for row, mailbox in self.existing:
            has = {destination.lower() for destination in mailbox.forwardings}
            aliases = tuple(each for each in row.aliases if each not in mailbox.aliases)
            forwardings = tuple(each for each in row.forwardings if each.lower() not in has)
            if aliases or forwardings:
                yield row, mailbox.row["id"], aliases, forwardings


def compare(rows: Iterable[Row], state: Mapping[str, PresentDomain]) -> Work:
    """Return what is to be done for the rows, and the rows that can't be imported, as faults."""
    work = Work()
    owners = {
        name: {alias: mailbox for mailbox in domain.mailboxes.values() for alias in mailbox.aliases}
        for name, domain in state.items()
    }
    for row in rows:
        name, local_part = row.address.domain_name, row.address.local_part
        if name not in state:
            work.faults.append(Fault(row.line, "domain", f"{name} not found: create it with `postroom domains create`"))
            continue
        present = state[name].mailboxes.get(local_part)
        faults = []
        if present is not None and present.row["status"] in UNUSABLE:
            faults.append(Fault(row.line, "local_part", f"{row.address} is {present.row['status']}: restore it"))
        if local_part in owners[name]:
            owner = owners[name][local_part].row["email"]
            faults.append(Fault(row.line, "local_part", f"{row.address} is an alias of {owner}: delete it first"))
        for alias in row.aliases:
            other = state[name].mailboxes.get(alias) or owners[name].get(alias)
            if other is not None and other is not present:
                faults.append(Fault(row.line, "aliases", f"{alias}@{name} belongs to mailbox {other.row['email']}"))
        if faults:
            work.faults += faults
        elif present is None:
            work.new.append(row)
        else:
            work.existing.append((row, present))
    return work


def batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each call: of one domain and period, and with passwords or with hashes."""

    def kind(row: Row) -> tuple[str, str, bool]:
        return row.address.domain_name, row.period, bool(row.password_hash)

    for (_, _, hashed), alike in groupby(sorted(rows, key=lambda row: (*kind(row), row.line)), key=kind):
        size, remaining = BATCH_OF_HASHES if hashed else BATCH_OF_PASSWORDS, list(alike)
        yield from (remaining[start : start + size] for start in range(0, len(remaining), size))


def carry_out(
    service: "MailboxServiceStub",
    work: Work,
    state: Mapping[str, PresentDomain],
    progress: Callable[[int], None],
) -> list[Fault]:
    """Create what is missing, and return what failed. Calls `progress` with numbers of rows that are done.

    A batch fails as a whole; the others are created nevertheless.
    """
    hashed = all(row.password_hash for row in work.new)
    calls = CALLS_OF_HASHES if hashed else CALLS_OF_PASSWORDS

    def create(batch: list[Row]) -> list[Fault]:
        domain = state[batch[0].address.domain_name].row["id"]
        new = [NewMailbox(row.address.local_part, row.password, row.password_hash) for row in batch]
        try:
            created = create_mailboxes(service, domain, batch[0].period, new)
        except CallFailed as failure:
            return _faults_of(batch, failure)
        finally:
            progress(len(batch))
        return [
            fault
            for row, mailbox in zip(batch, created, strict=True)
            for fault in _complete(service, row, mailbox.id, row.aliases, row.forwardings)
        ]

    def complete(item: tuple[Row, str, tuple[str, ...], tuple[str, ...]]) -> list[Fault]:
        return _complete(service, *item)

    progress(len(work.existing))
    with ThreadPoolExecutor(calls) as executor:
        try:
            found = [*executor.map(create, batches(work.new)), *executor.map(complete, work.missing)]
        except BaseException:
            executor.shutdown(cancel_futures=True)  # at Ctrl-C only what has begun is completed
            raise
    return sorted((fault for faults in found for fault in faults), key=lambda fault: fault.line)


def _complete(
    service: "MailboxServiceStub", row: Row, mailbox_id: str, aliases: Iterable[str], forwardings: Iterable[str]
) -> list[Fault]:
    """Create aliases and forwardings of a mailbox, and return what failed."""
    faults = []
    for column, create, items in (("aliases", create_alias, aliases), ("forwardings", create_forwarding, forwardings)):
        for item in items:
            try:
                create(service, mailbox_id, item)
            except CallFailed as failure:
                reason, code = explain_call(failure.details)
                faults.append(Fault(row.line, column, f"{item or '@'}: {reason}", code))
    return faults


def _faults_of(batch: Sequence[Row], failure: CallFailed) -> list[Fault]:
    """Return the faults of a batch: those of its rows where the error names them, otherwise one of its first line."""
    details = failure.details
    named = [(each.field, each.description) for each in details.violations]
    named += [(each.owner, f"{each.description} is in use") for each in details.resources]
    faults = []
    for path, message in named:
        index, separator, name = path.removeprefix("mailboxes[").partition("].")
        if separator and path.startswith("mailboxes[") and index.isdecimal() and int(index) < len(batch):
            faults.append(Fault(batch[int(index)].line, name, message))
        elif details.violations:
            faults.append(Fault(batch[0].line, argument(path), message))
    lines = f"lines {batch[0].line} to {batch[-1].line} were not imported: "
    reason, code = explain_call(details)
    return faults or [Fault(batch[0].line, "", lines + reason, code)]
