"""The worker's eyes on the DNS: looks a domain's records up, and says of each what was found."""

import asyncio
from collections.abc import Mapping

import dns.exception
import dns.name
from dns.rdatatype import RdataType

from postroomd.dns.answers import Answer, Outcome
from postroomd.dns.compare import judge
from postroomd.dns.config import DnsConfig
from postroomd.dns.lookup import Lookup, LookupFailed
from postroomd.domain.model import DnsType, Domain, DomainRecord
from postroomd.domain.records import Finding

RDATA_TYPES: Mapping[DnsType, RdataType] = {
    DnsType.CNAME_DNS_TYPE: RdataType.CNAME,
    DnsType.MX_DNS_TYPE: RdataType.MX,
    DnsType.SRV_DNS_TYPE: RdataType.SRV,
    DnsType.TXT_DNS_TYPE: RdataType.TXT,
}


class DnsProber:
    """Looks domains' records up at their authoritative servers. Raises ValueError where there is no resolver to ask."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        self._resolvers = config.endpoints()

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """What was found of each record, by kind: within `deadline_seconds`, whatever the servers do."""
        lookup = Lookup(self._config, self._resolvers)
        answers: dict[str, Answer] = {}
        reason = f"it took longer than the {self._config.deadline_seconds:g} s that a domain may take"
        try:
            async with asyncio.timeout(self._config.deadline_seconds):
                # First of all, and once: where this fails, twelve look-ups would fail alike, one after the other.
                await lookup.find_zone(dns.name.from_text(domain.name))
                async with asyncio.TaskGroup() as tasks:
                    for kind, record in records.items():
                        tasks.create_task(_answer(lookup, record, kind, answers))
        except TimeoutError:
            reason = "; ".join(filter(None, (reason, lookup.troubles)))
        except LookupFailed as error:
            reason = str(error)
        return {kind: judge(record, answers.get(kind) or _failed(record, reason)) for kind, record in records.items()}


async def _answer(lookup: Lookup, record: DomainRecord, kind: str, answers: dict[str, Answer]) -> None:
    try:
        name = dns.name.from_text(record.dns_name)
    except dns.exception.DNSException:
        # A long domain name leaves no room for the labels that a record puts before it.
        answers[kind] = _failed(record, "the name is not one that the DNS can have")
        return
    rdtype = RDATA_TYPES[record.dns_type]
    until = dns.name.from_text(record.dns_value) if rdtype is RdataType.CNAME else None
    answers[kind] = await lookup.look_up(name, rdtype, until)


def _failed(record: DomainRecord, reason: str) -> Answer:
    return Answer(outcome=Outcome.FAILED, chain=(record.dns_name,), reason=reason)
