"""Lookup of a planned record, at its own name or at a misplaced one."""

from collections.abc import Mapping

import dns.exception
import dns.name
from dns.rdatatype import RdataType

from postroomd.dns.lookup import DomainLookup
from postroomd.dns.result import LookupResult, LookupStatus
from postroomd.domain.model import DnsType, DomainRecord

RDATA_TYPES: Mapping[DnsType, RdataType] = {
    DnsType.CNAME_DNS_TYPE: RdataType.CNAME,
    DnsType.MX_DNS_TYPE: RdataType.MX,
    DnsType.SRV_DNS_TYPE: RdataType.SRV,
    DnsType.TXT_DNS_TYPE: RdataType.TXT,
}


async def look_up_record(
    lookup: DomainLookup, record: DomainRecord, suffix: dns.name.Name = dns.name.root
) -> LookupResult:
    """Look up a record at its planned name, with or without trailing dot, followed by `suffix`."""
    try:
        name = planned_name(record, suffix)
    except dns.exception.DNSException:
        # A long domain name leaves no room for the labels of a record.
        error = "the name exceeds the 253 octets of a DNS name"
        return LookupResult(status=LookupStatus.FAILED, chain=(record.dns_name,), error=error)
    rdtype = RDATA_TYPES[record.dns_type]
    until = dns.name.from_text(record.dns_value) if rdtype is RdataType.CNAME else None
    return await lookup.resolve(name, rdtype, until)


def planned_name(record: DomainRecord, suffix: dns.name.Name = dns.name.root) -> dns.name.Name:
    """Return the planned name of a record followed by `suffix`. Raises dns.exception.DNSException if it is too long."""
    return dns.name.from_text(record.dns_name).relativize(dns.name.root).concatenate(suffix)
