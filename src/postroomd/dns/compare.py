"""What a look-up has found, held against the record that should be there. Nothing here does I/O.

Names compare without regard to case (RFC 4343) and to a final dot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from postroomd.dns.answers import Answer, Outcome
from postroomd.dns.policies import Fault, dkim_fault, dmarc_fault, spf_fault
from postroomd.dns.wording import MOST_CHARACTERS, arrows, cut, listed, quoted
from postroomd.domain.model import DnsType, DomainRecord, RecordStatus
from postroomd.domain.records import VALIDATION_PREFIX, Finding

Rule = Callable[[str, Sequence[str]], Fault | None]
"""The expected value and those found -> what is wrong with them."""

TYPE_NAMES: Mapping[DnsType, str] = {
    DnsType.CNAME_DNS_TYPE: "CNAME",
    DnsType.MX_DNS_TYPE: "MX",
    DnsType.SRV_DNS_TYPE: "SRV",
    DnsType.TXT_DNS_TYPE: "TXT",
}

_EXPLAINED: Mapping[Outcome, tuple[RecordStatus, str]] = {
    Outcome.NO_NAME: (RecordStatus.NOT_FOUND, "there is no name {last} in the DNS"),
    Outcome.NO_DATA: (RecordStatus.NOT_FOUND, "{last} has no {type} record"),
    Outcome.LOOP: (RecordStatus.INVALID, "the CNAME records of {first} lead round in a loop"),
    Outcome.TOO_LONG: (RecordStatus.INVALID, "the CNAME records of {first} lead on for too long"),
}
"""Outcome -> what it means, where no record was found."""


@dataclass(frozen=True, slots=True)
class _Service:
    """What an MX (RFC 5321) or SRV record (RFC 2782) points at. MX records have no port."""

    preference: int
    port: str
    host: str

    @property
    def place(self) -> tuple[str, str]:
        return (self.port, self.host)


def judge(record: DomainRecord, answer: Answer) -> Finding:
    """What an answer means for a record: VALID, or what was found and what was expected."""
    if answer.outcome is Outcome.FAILED:
        name = cut(answer.chain[0], 70)
        return Finding(
            RecordStatus.INVALID,
            cut(f"the look-up of {TYPE_NAMES[record.dns_type]} {name} failed: {answer.reason}", MOST_CHARACTERS),
        )
    if answer.outcome is Outcome.FOUND:
        rule = _RULES_OF_KINDS.get(record.kind) or _RULES_OF_TYPES[record.dns_type]
        fault = rule(record.dns_value, answer.values)
        if fault is None:
            return Finding(RecordStatus.VALID)
    else:
        status, problem = _EXPLAINED[answer.outcome]
        names = {"first": cut(answer.chain[0], 70), "last": cut(answer.chain[-1], 70)}
        fault = Fault(problem.format(type=TYPE_NAMES[record.dns_type], **names), status)
    return Finding(fault.status, _sentence(fault.problem, record.dns_value, answer))


def _sentence(problem: str, expected: str, answer: Answer) -> str:
    clauses = [problem]
    if len(answer.chain) > 1:
        clauses.append(f"followed {arrows(answer.chain)}")
    if answer.values:
        clauses.append(f"found {listed([quoted(value) for value in answer.values])}")
    # What was expected can be read in the record itself, so that it is what gives way.
    return cut(f"{'; '.join(clauses)}; expected {quoted(expected)}", MOST_CHARACTERS)


def _token_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    if expected in texts:
        return None
    if any(text.startswith(VALIDATION_PREFIX) for text in texts):
        return Fault("the token of another registration of this name is published, and not this one's")
    return Fault("no TXT record of the name is a validation token")


def _text_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    return None if expected in texts else Fault("no TXT record of the name says what is expected")


def _alias_fault(expected: str, targets: Sequence[str]) -> Fault | None:
    """A chain of CNAME records serves where it comes by the expected host."""
    if _host(expected) in map(_host, targets):
        return None
    return Fault("the CNAME record points elsewhere")


def _service_fault(expected: str, values: Sequence[str]) -> Fault | None:
    """The expected host and port, preferred to all others. The number of its preference, and the weight, are free."""
    wanted = _service(expected)
    services = [_service(value) for value in values]
    ours = [service.preference for service in services if service.place == wanted.place]
    others = [service.preference for service in services if service.place != wanted.place]
    if not ours:
        if all(service.host == "" for service in services):  # RFC 7505; RFC 2782 for SRV
            return Fault("the host is `.`, which says that there is no such service")
        return Fault("no record points at the expected host and port" if wanted.port else "no record names our host")
    if others and min(others) < min(ours):
        return Fault("another host is preferred to ours: ours must have the lowest number")
    if others and min(others) == min(ours):
        # Clients choose at random among equals (RFC 5321, section 5.1): a part of them would not reach us.
        return Fault("another host is preferred as much as ours: ours must have the lowest number")
    return None


def _service(value: str) -> _Service:
    """`PREFERENCE HOST` of an MX record, or `PRIORITY WEIGHT PORT HOST` of an SRV record."""
    first, *between, host = value.split()
    return _Service(int(first), between[-1] if between else "", _host(host))


def _host(name: str) -> str:
    return name.lower().removesuffix(".")


_RULES_OF_KINDS: Mapping[str, Rule] = {
    "domain_validation": _token_fault,
    "spf": spf_fault,
    "dkim": dkim_fault,
    "dmarc": dmarc_fault,
}

_RULES_OF_TYPES: Mapping[DnsType, Rule] = {
    DnsType.CNAME_DNS_TYPE: _alias_fault,
    DnsType.MX_DNS_TYPE: _service_fault,
    DnsType.SRV_DNS_TYPE: _service_fault,
    DnsType.TXT_DNS_TYPE: _text_fault,
}
