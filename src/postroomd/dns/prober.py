"""The DNS prober: looks up all records of a domain and evaluates them."""

import asyncio
from collections.abc import Mapping

import dns.name

from postroomd.dns.client import LookupFailed
from postroomd.dns.config import DnsConfig
from postroomd.dns.evaluation import evaluate, finding_of, unanswered
from postroomd.dns.fallbacks import apply_organizational_dmarc, explain_doubled_names
from postroomd.dns.limits import QueryLimits
from postroomd.dns.lookup import DomainLookup
from postroomd.dns.record_lookup import look_up_record
from postroomd.dns.result import LookupStatus
from postroomd.dns.spf_check import spf_fault
from postroomd.dns.thorough_lookup import look_up_next_key, look_up_token
from postroomd.domain.model import Domain, DomainRecord
from postroomd.domain.records import NEXT_DKIM_KIND, VALIDATION_KIND, Finding, Outcome

_THOROUGH = {VALIDATION_KIND: look_up_token, NEXT_DKIM_KIND: look_up_next_key}
"""Lookups of records for which one server's response may not suffice."""


class DnsProber:
    """Looks up domains' records at their authoritative servers. Raises ValueError if no resolver is configured."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        self._resolvers = config.endpoints()
        self._limits = QueryLimits()

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """Return the finding of each record by kind, within `deadline_seconds`."""
        lookup = DomainLookup(self._config, self._resolvers, self._limits, domain.organization_id)
        validation = _Validation(lookup, domain, records)
        error = f"the lookups took longer than the {self._config.deadline_seconds:g} s allowed per domain"
        try:
            async with asyncio.timeout(self._config.deadline_seconds):
                await validation.run()
        except TimeoutError:
            error = "; ".join(filter(None, (error, lookup.server_errors)))
        except LookupFailed as failure:
            error = str(failure)
        return {kind: validation.findings.get(kind) or unanswered(record, error) for kind, record in records.items()}


class _Validation:
    """One validation of a domain; `findings` grow as lookups end, so that a deadline loses only the remaining ones."""

    def __init__(self, lookup: DomainLookup, domain: Domain, records: Mapping[str, DomainRecord]) -> None:
        self._lookup = lookup
        self._domain = domain
        self._records = records
        self.findings: dict[str, Finding] = {}

    async def run(self) -> None:
        """Look up all records. Raises LookupFailed if the zone's servers cannot be found."""
        # Once, up front: if this fails, all twelve lookups would fail in the same way one after the other.
        zone = await self._lookup.find_zone(dns.name.from_text(self._domain.name))
        async with asyncio.TaskGroup() as tasks:
            # The token first: the ownership of the name depends on it, and the packet budget is shared.
            for record in sorted(self._records.values(), key=lambda record: record.kind != VALIDATION_KIND):
                tasks.create_task(self._check(record))
        if any(finding.outcome is Outcome.ABSENT for finding in self.findings.values()):
            await explain_doubled_names(self._lookup, self._domain, zone.apex, self._records, self.findings)

    async def _check(self, record: DomainRecord) -> None:
        if (look_up := _THOROUGH.get(record.kind)) is not None:
            self.findings[record.kind] = await look_up(self._lookup, record)
            return
        result = await look_up_record(self._lookup, record)
        if record.kind == "spf" and result.status is LookupStatus.FOUND:
            fault = await spf_fault(self._lookup.resolve, self._domain.name, record.dns_value, result.values)
            self.findings[record.kind] = finding_of(record, result, fault)
            return
        finding = self.findings[record.kind] = evaluate(record, result)
        if record.kind == "dmarc" and finding.outcome is Outcome.ABSENT:
            await apply_organizational_dmarc(self._lookup, self._domain, record, self.findings)
