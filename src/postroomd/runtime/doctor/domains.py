"""Lookups of the DNS records of every ready domain, now. Nothing is stored."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from postroomd.dns import DnsProber
from postroomd.domain.diagnosis import Condition, Finding, faulty_domains
from postroomd.domain.model import Domain, DomainRecord, RecordLevel, RecordStatus
from postroomd.domain.records import Finding as RecordFinding
from postroomd.storage.protocols.repository import Repository

PAGE_SIZE = 200
CONCURRENT_LOOKUPS = 20

Progress = Callable[[int], None]
"""Takes the number of domains that have been looked up since the last call."""


async def look_up_domains(repository: Repository, prober: DnsProber, progress: Progress) -> list[Finding]:
    """Return a finding on the lookups, and one for each domain whose required records are not valid."""
    slots = asyncio.Semaphore(CONCURRENT_LOOKUPS)
    faults: dict[str, list[str]] = {}
    total = 0

    async def look_up(domain: Domain, records: Mapping[str, DomainRecord]) -> None:
        async with slots:
            found = [*_faults(records, await prober.probe(domain, records))]
        if found:
            faults[domain.name] = found
        progress(1)

    after = ""
    while page := await repository.ready_domains(after, PAGE_SIZE):
        async with asyncio.TaskGroup() as tasks:
            for domain, records in page:
                tasks.create_task(look_up(domain, records))
        total += len(page)
        after = page[-1][0].id
    detail = f"{total} ready domains were looked up now, {len(faults)} have faulty required records"
    return [
        Finding(check="dns lookups", condition=Condition.OK, detail=detail),
        *faulty_domains({name: faults[name] for name in sorted(faults)}),
    ]


def _faults(records: Mapping[str, DomainRecord], found: Mapping[str, RecordFinding]) -> Iterator[str]:
    for kind, record in sorted(records.items()):
        if record.level is RecordLevel.REQUIRED and found[kind].status is not RecordStatus.VALID:
            state = "not answered" if found[kind].status is RecordStatus.UNKNOWN_STATUS else found[kind].status.value
            yield f"{kind} is {state}" + (f" ({found[kind].error})" if found[kind].error else "")
