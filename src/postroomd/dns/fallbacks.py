"""Further lookups for records that are absent: the organizational DMARC policy, and doubled names."""

from collections.abc import Mapping, MutableMapping
from dataclasses import replace

import dns.name
from dns.rdatatype import RdataType

from postroomd.dns.evaluation import evaluate
from postroomd.dns.formatting import MAX_CHAIN_NAME_LENGTH, MAX_ERROR_LENGTH, truncate
from postroomd.dns.lookup import DomainLookup
from postroomd.dns.record_lookup import look_up_record
from postroomd.dns.responses import name_text
from postroomd.dns.result import LookupStatus
from postroomd.domain.domain_names import organizational_domain
from postroomd.domain.model import Domain, DomainRecord, RecordStatus
from postroomd.domain.records import Finding, Outcome


async def apply_organizational_dmarc(
    lookup: DomainLookup, domain: Domain, record: DomainRecord, findings: MutableMapping[str, Finding]
) -> None:
    """Accept the organizational domain's DMARC record if the domain has none (RFC 7489, section 6.6.3)."""
    parent = organizational_domain(domain.name)
    if parent is None or parent == domain.name:
        return
    name = f"_dmarc.{parent}"
    finding = evaluate(record, await lookup.resolve(dns.name.from_text(name), RdataType.TXT))
    own, name = (truncate(text, MAX_CHAIN_NAME_LENGTH) for text in (record.dns_name.removesuffix("."), name))
    if finding.outcome is Outcome.PRESENT:
        text = f"{own} has no DMARC record: the policy of {name} applies (RFC 7489, section 6.6.3)"
        findings[record.kind] = Finding(RecordStatus.VALID, text)
    elif finding.outcome is Outcome.WRONG:
        text = f"{own} has no DMARC record, and the policy of {name} does not apply: {finding.error}"
        findings[record.kind] = Finding(RecordStatus.NOT_FOUND, truncate(text, MAX_ERROR_LENGTH))


async def explain_doubled_names(
    lookup: DomainLookup,
    domain: Domain,
    apex: dns.name.Name,
    records: Mapping[str, DomainRecord],
    findings: MutableMapping[str, Finding],
) -> None:
    """Explain absent records that are published below NAME.NAME: many DNS panels append the zone's name themselves."""
    parent = organizational_domain(domain.name)
    if parent is None or not apex.is_subdomain(dns.name.from_text(parent)):
        return  # the zone of a registry: the name itself is not registered
    try:
        doubled_apex = apex.relativize(dns.name.root).concatenate(apex)
    except dns.name.NameTooLong:
        return  # no such name can be published
    if (await lookup.resolve(doubled_apex, RdataType.TXT)).status in {LookupStatus.NXDOMAIN, LookupStatus.FAILED}:
        return  # NXDOMAIN covers all names below (RFC 8020): one query instead of one per record
    for record in records.values():
        if findings[record.kind].outcome is Outcome.ABSENT:
            result = await look_up_record(lookup, record, apex)
            if _is_planned(record, evaluate(record, result), result.values):
                published = truncate(result.chain[0], 2 * MAX_CHAIN_NAME_LENGTH)
                hint = f"published as {published}: enter the name as {_panel_name(record, apex)}"
                text = f"{hint}, because the DNS panel appends {name_text(apex)}; {findings[record.kind].error}"
                findings[record.kind] = replace(findings[record.kind], error=truncate(text, MAX_ERROR_LENGTH))


def _panel_name(record: DomainRecord, apex: dns.name.Name) -> str:
    relative = dns.name.from_text(record.dns_name).relativize(apex)
    return f"`{relative.to_text()}`"


def _is_planned(record: DomainRecord, finding: Finding, values: tuple[str, ...]) -> bool:
    """Return whether the record found is the planned one, rather than an unrelated or wildcard record."""
    if record.kind == "spf":
        return record.dns_value in values
    return finding.outcome is Outcome.PRESENT
