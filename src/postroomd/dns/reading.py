"""What an answer's sections say, and whether they count. Nothing here does I/O."""

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

from postroomd.dns.wording import cut


def resolver_flaw(answer: dns.message.Message) -> str | None:
    """Why a resolver's answer is not taken, or None."""
    # A resolver that validates answers SERVFAIL for a zone whose signatures are wrong: going round it by way of the
    # zone above would lend that zone's forger a hand.
    return None if answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN} else f"answers {_code(answer)}"


def authority_flaw(answer: dns.message.Message, apex: dns.name.Name, name: dns.name.Name) -> str | None:
    """Why the answer of a zone's server about a name in it is not taken, or None."""
    if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return f"answers {_code(answer)}"
    if answer.flags & dns.flags.AA or delegation_in(answer, apex, name):
        return None
    return f"is not authoritative for {cut(text_of(apex), 60)} (a lame delegation)"


def delegation_in(answer: dns.message.Message, apex: dns.name.Name, name: dns.name.Name) -> dns.rrset.RRset | None:
    """The NS records of the zone below that an answer refers to, on the way to the name."""
    if answer.flags & dns.flags.AA or answer.answer or answer.rcode() != dns.rcode.NOERROR:
        return None
    return next(
        (
            rrset
            for rrset in answer.authority
            if rrset.rdtype is RdataType.NS
            and rrset.name != apex
            and rrset.name.is_subdomain(apex)
            and name.is_subdomain(rrset.name)
        ),
        None,
    )


def apex_above(name: dns.name.Name, answer: dns.message.Message) -> dns.name.Name:
    """Where to look on for the zone of a name that has no NS records: the zone that denies them, or one label up."""
    denying = (rrset.name for rrset in answer.authority if rrset.rdtype is RdataType.SOA)
    return next((apex for apex in denying if apex != name and name.is_subdomain(apex)), name.parent())


def records_of(section: Sequence[dns.rrset.RRset], name: dns.name.Name, rdtype: RdataType) -> list[dns.rdata.Rdata]:
    """The records of this very name and type: whatever else an answer brings is not believed."""
    wanted = (name, dns.rdataclass.IN, rdtype)
    return [record for rrset in section if (rrset.name, rrset.rdclass, rrset.rdtype) == wanted for record in rrset]


def value_of(record: dns.rdata.Rdata) -> str:
    """A record's text: the strings of a TXT record joined, else the form of a zone file."""
    if isinstance(record, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(record.strings).decode("latin-1")
    return record.to_text()


def text_of(name: dns.name.Name) -> str:
    """A name without its final dot."""
    return name.to_text(omit_final_dot=True)


def targets_of(records: Sequence[dns.rdata.Rdata]) -> list[dns.name.Name]:
    """The names that NS or CNAME records point at."""
    return [record.target for record in records if isinstance(record, dns.rdtypes.nsbase.NSBase)]


def _code(answer: dns.message.Message) -> str:
    return dns.rcode.to_text(answer.rcode())
