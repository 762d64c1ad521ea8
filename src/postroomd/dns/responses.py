"""Acceptance checks on DNS responses, and extraction of records from their sections. No I/O."""

from collections.abc import Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdtypes.ANY.TXT
import dns.rdtypes.nsbase
import dns.rrset
from dns.rdatatype import RdataType

from postroomd.dns.formatting import truncate

_ACCEPTED_RCODES = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})


def resolver_error(response: dns.message.Message) -> str | None:
    """Return why a recursive resolver's response is rejected, or None."""
    # A validating resolver returns SERVFAIL for a zone with bad signatures. Bypassing it through the parent zone
    # would help the forger of that zone, so there is no fallback.
    return None if response.rcode() in _ACCEPTED_RCODES else f"returned {_rcode(response)}"


def authority_error(response: dns.message.Message, apex: dns.name.Name, name: dns.name.Name) -> str | None:
    """Return why the response of a server of zone `apex` about `name` is rejected, or None."""
    if response.rcode() not in _ACCEPTED_RCODES:
        return f"returned {_rcode(response)}"
    if response.flags & dns.flags.AA or delegation_in(response, apex, name):
        return None
    return f"is not authoritative for {truncate(name_text(apex), 60)} (lame delegation)"


def delegation_in(response: dns.message.Message, apex: dns.name.Name, name: dns.name.Name) -> dns.rrset.RRset | None:
    """Return the NS records of a referral from zone `apex` to a child zone that contains `name`, or None."""
    if response.flags & dns.flags.AA or response.answer or response.rcode() != dns.rcode.NOERROR:
        return None
    return next(
        (
            rrset
            for rrset in response.authority
            if rrset.rdtype is RdataType.NS
            and rrset.name != apex
            and rrset.name.is_subdomain(apex)
            and name.is_subdomain(rrset.name)
        ),
        None,
    )


def next_apex_candidate(name: dns.name.Name, response: dns.message.Message) -> dns.name.Name:
    """Return where to continue the search for the zone of a name without NS records: the SOA's owner, or the parent."""
    owners = (rrset.name for rrset in response.authority if rrset.rdtype is RdataType.SOA)
    return next((apex for apex in owners if apex != name and name.is_subdomain(apex)), name.parent())


def records_in(section: Sequence[dns.rrset.RRset], name: dns.name.Name, rdtype: RdataType) -> list[dns.rdata.Rdata]:
    """Return the records of exactly this owner name and type; unrelated records of a response are not trusted."""
    key = (name, dns.rdataclass.IN, rdtype)
    return [record for rrset in section if (rrset.name, rrset.rdclass, rrset.rdtype) == key for record in rrset]


def record_text(record: dns.rdata.Rdata) -> str:
    """Return the concatenated strings of a TXT record as Latin-1, or the presentation format of another type."""
    if isinstance(record, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(record.strings).decode("latin-1")
    return record.to_text()


def name_text(name: dns.name.Name) -> str:
    """Return a name without its trailing dot."""
    return name.to_text(omit_final_dot=True)


def targets_of(records: Sequence[dns.rdata.Rdata]) -> list[dns.name.Name]:
    """Return the target names of NS or CNAME records."""
    return [record.target for record in records if isinstance(record, dns.rdtypes.nsbase.NSBase)]


def _rcode(response: dns.message.Message) -> str:
    return dns.rcode.to_text(response.rcode())
