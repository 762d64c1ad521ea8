"""Comparison of lookup results with the planned records. No I/O.

Host names are compared case-insensitively (RFC 4343) and without the trailing dot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from postroomd.dns.dkim import dkim_fault
from postroomd.dns.dmarc import dmarc_fault
from postroomd.dns.fault import Fault, missing
from postroomd.dns.formatting import (
    MAX_CHAIN_NAME_LENGTH,
    MAX_ERROR_LENGTH,
    MAX_TXT_STRING_LENGTH,
    format_chain,
    join_limited,
    quote,
    quote_strings,
    truncate,
)
from postroomd.dns.result import LookupResult, LookupStatus
from postroomd.dns.validation_token import validation_token_fault
from postroomd.domain.model import DnsType, DomainRecord, RecordStatus
from postroomd.domain.records import DKIM_KIND, NEXT_DKIM_KIND, PREVIOUS_DKIM_KIND, Finding

Rule = Callable[[str, Sequence[str]], Fault | None]
"""Expected value and published values, sorted -> fault."""

TYPE_NAMES: Mapping[DnsType, str] = {
    DnsType.CNAME_DNS_TYPE: "CNAME",
    DnsType.MX_DNS_TYPE: "MX",
    DnsType.SRV_DNS_TYPE: "SRV",
    DnsType.TXT_DNS_TYPE: "TXT",
}

_FAULTS_WITHOUT_VALUES: Mapping[LookupStatus, tuple[RecordStatus, str]] = {
    LookupStatus.NXDOMAIN: (RecordStatus.NOT_FOUND, "the name {last} does not exist"),
    LookupStatus.NO_DATA: (RecordStatus.NOT_FOUND, "{last} has no {type} record"),
    LookupStatus.CNAME_LOOP: (RecordStatus.INVALID, "the CNAME records of {first} form a loop"),
    LookupStatus.CNAME_CHAIN_TOO_LONG: (RecordStatus.INVALID, "the CNAME chain of {first} is too long"),
}


@dataclass(frozen=True, slots=True)
class _Target:
    """Target of an MX (RFC 5321) or SRV record (RFC 2782). MX records have an empty port."""

    preference: int
    port: str
    host: str

    @property
    def host_port(self) -> tuple[str, str]:
        return (self.host, self.port)


def evaluate(record: DomainRecord, result: LookupResult) -> Finding:
    """Compare a lookup result with the planned record; `spf_check` compares SPF records that were found."""
    if result.status is LookupStatus.FAILED:
        return unanswered(record, result.error)
    if result.status is LookupStatus.FOUND:
        rule = _RULES_BY_KIND.get(record.kind) or _RULES_BY_TYPE[record.dns_type]
        fault = rule(record.dns_value, sorted_values(record, result))
    else:
        status, template = _FAULTS_WITHOUT_VALUES[result.status]
        first, last = (truncate(result.chain[index], MAX_CHAIN_NAME_LENGTH) for index in (0, -1))
        fault = Fault(template.format(first=first, last=last, type=TYPE_NAMES[record.dns_type]), status)
    return finding_of(record, result, fault)


def unanswered(record: DomainRecord, cause: str) -> Finding:
    """Return the finding of a lookup without a usable response."""
    name = truncate(record.dns_name.removesuffix("."), MAX_CHAIN_NAME_LENGTH)
    error = f"lookup of {TYPE_NAMES[record.dns_type]} {name} failed: {cause}"
    return Finding(RecordStatus.UNKNOWN_STATUS, truncate(error, MAX_ERROR_LENGTH))


def finding_of(record: DomainRecord, result: LookupResult, fault: Fault | None) -> Finding:
    """Return the finding of a fault, with an error that names the published and the expected values."""
    if fault is None:
        return Finding(RecordStatus.VALID)
    values = sorted_values(record, result) if fault.values is None else fault.values
    clauses = [fault.problem]
    if len(result.chain) > 1:
        clauses.append(f"followed {format_chain(result.chain)}")
    if values:
        clauses.append(f"found {join_limited([quote(value) for value in values])}")
    if fault.status is not RecordStatus.VALID:
        clauses.append(f"expected {_expected_text(record)}")
    return Finding(fault.status, truncate("; ".join(clauses), MAX_ERROR_LENGTH))


def sorted_values(record: DomainRecord, result: LookupResult) -> Sequence[str]:
    """Return the published values in an order that does not depend on the server; a CNAME chain keeps its own."""
    if record.dns_type is DnsType.CNAME_DNS_TYPE:
        return result.values
    if record.dns_type is DnsType.TXT_DNS_TYPE:
        return sorted(result.values)
    return sorted(result.values, key=lambda value: [int(part) if part.isdigit() else part for part in value.split()])


def _expected_text(record: DomainRecord) -> str:
    if record.dns_type is DnsType.TXT_DNS_TYPE and len(record.dns_value) > MAX_TXT_STRING_LENGTH:
        return f"{quote_strings(record.dns_value)} (one TXT record of several strings)"
    return quote(record.dns_value)


def _txt_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    return None if expected in texts else missing("no TXT record of the name has the expected value")


def _cname_fault(expected: str, targets: Sequence[str]) -> Fault | None:
    """Return the fault unless the CNAME chain passes through the expected host."""
    if _host(expected) in map(_host, targets):
        return None
    return Fault("the CNAME record has another target")


def _target_fault(expected: str, values: Sequence[str]) -> Fault | None:
    """Return the fault unless the expected host and port is preferred to all others, at whatever preference."""
    planned = _parse_target(expected)
    targets = [_parse_target(value) for value in values]
    ours = [target.preference for target in targets if target.host_port == planned.host_port]
    others = [target.preference for target in targets if target.host_port != planned.host_port]
    if not ours:
        if all(target.host == "" for target in targets):
            return Fault("the host is `.`, which declares that the service is not available (RFC 7505, RFC 2782)")
        return Fault("no record has the expected host and port" if planned.port else "no record has the expected host")
    if others and min(others) < min(ours):
        return Fault("another host is preferred: the expected host must have the lowest number")
    if others and min(others) == min(ours):
        # Senders choose at random among equal preferences (RFC 5321, section 5.1).
        return Fault("another host has the same preference: the expected host must have the lowest number")
    return None


def _parse_target(value: str) -> _Target:
    """Parse `PREFERENCE HOST` (MX) or `PRIORITY WEIGHT PORT HOST` (SRV)."""
    preference, *between, host = value.split()
    return _Target(int(preference), between[-1] if between else "", _host(host))


def _host(name: str) -> str:
    return name.lower().removesuffix(".")


_RULES_BY_KIND: Mapping[str, Rule] = {
    "domain_validation": validation_token_fault,
    DKIM_KIND: dkim_fault,
    NEXT_DKIM_KIND: dkim_fault,
    PREVIOUS_DKIM_KIND: dkim_fault,
    "dmarc": dmarc_fault,
}

_RULES_BY_TYPE: Mapping[DnsType, Rule] = {
    DnsType.CNAME_DNS_TYPE: _cname_fault,
    DnsType.MX_DNS_TYPE: _target_fault,
    DnsType.SRV_DNS_TYPE: _target_fault,
    DnsType.TXT_DNS_TYPE: _txt_fault,
}
