"""The DNS prober: looks up all records of a domain and evaluates them."""

import asyncio
from collections.abc import Mapping

import dns.exception
import dns.name
from dns.rdatatype import RdataType

from postroomd.dns.config import DnsConfig
from postroomd.dns.evaluation import evaluate
from postroomd.dns.lookup import DomainLookup, LookupFailed
from postroomd.dns.result import LookupResult, LookupStatus
from postroomd.domain.model import DnsType, Domain, DomainRecord
from postroomd.domain.records import Finding

RDATA_TYPES: Mapping[DnsType, RdataType] = {
    DnsType.CNAME_DNS_TYPE: RdataType.CNAME,
    DnsType.MX_DNS_TYPE: RdataType.MX,
    DnsType.SRV_DNS_TYPE: RdataType.SRV,
    DnsType.TXT_DNS_TYPE: RdataType.TXT,
}


class DnsProber:
    """Looks up domains' records at their authoritative servers. Raises ValueError if no resolver is configured."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        self._resolvers = config.endpoints()

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """Return the finding of each record by kind, within `deadline_seconds`."""
        lookup = DomainLookup(self._config, self._resolvers)
        results: dict[str, LookupResult] = {}
        error = f"the lookups took longer than the {self._config.deadline_seconds:g} s allowed per domain"
        try:
            async with asyncio.timeout(self._config.deadline_seconds):
                # Once, up front: if this fails, all twelve lookups would fail in the same way one after the other.
                await lookup.find_zone(dns.name.from_text(domain.name))
                async with asyncio.TaskGroup() as tasks:
                    for kind, record in records.items():
                        tasks.create_task(_look_up(lookup, record, kind, results))
        except TimeoutError:
            error = "; ".join(filter(None, (error, lookup.server_errors)))
        except LookupFailed as failure:
            error = str(failure)
        return {kind: evaluate(record, results.get(kind) or _failed(record, error)) for kind, record in records.items()}


async def _look_up(lookup: DomainLookup, record: DomainRecord, kind: str, results: dict[str, LookupResult]) -> None:
    try:
        name = dns.name.from_text(record.dns_name)
    except dns.exception.DNSException:
        # A long domain name leaves no room for the labels of a record.
        results[kind] = _failed(record, "the name exceeds the 253 octets of a DNS name")
        return
    rdtype = RDATA_TYPES[record.dns_type]
    until = dns.name.from_text(record.dns_value) if rdtype is RdataType.CNAME else None
    results[kind] = await lookup.resolve(name, rdtype, until)


def _failed(record: DomainRecord, error: str) -> LookupResult:
    return LookupResult(status=LookupStatus.FAILED, chain=(record.dns_name,), error=error)
