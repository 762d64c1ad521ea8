"""The DNS records that a domain should publish.

Sources: RFC 5321 (MX), 7208 (SPF), 6376 (DKIM), 7489 (DMARC), 6186 and 8314 (SRV of IMAP, POP3 and submission), 6764
(SRV of CalDAV and CardDAV); autoconfig is Mozilla's convention and autodiscover Microsoft's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from postroomd.domain.events import DomainEvent
from postroomd.domain.model import DnsType, DomainRecord, DomainStatus, RecordLevel, RecordStatus

_SPF_QUALIFIERS = {"softfail": "~", "fail": "-"}


class Outcome(StrEnum):
    """Outcome of one record's lookup, from which the domain's event follows."""

    PRESENT = "present"
    ABSENT = "absent"  # an authoritative server returned no such record
    WRONG = "wrong"
    UNANSWERED = "unanswered"  # no usable response: a timeout, SERVFAIL, an exhausted budget


_OUTCOMES = {
    RecordStatus.VALID: Outcome.PRESENT,
    RecordStatus.NOT_FOUND: Outcome.ABSENT,
    RecordStatus.INVALID: Outcome.WRONG,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one DNS record's lookup. `error` of a VALID record is a warning.

    UNKNOWN_STATUS: the lookup was not answered.
    """

    status: RecordStatus
    error: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome that the status stands for."""
        return _OUTCOMES.get(self.status, Outcome.UNANSWERED)

    @property
    def lacking(self) -> bool:
        """Whether an authoritative server returned no such record, or others in its place."""
        return self.outcome in {Outcome.ABSENT, Outcome.WRONG}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailHosts:
    """The operator's host names that the records point at, without a final dot, and the policies in them.

    The validation record is published at `validation_label` below the domain, or at the domain itself if the label is
    empty; its value is `validation_prefix` and the token. `spf_policy` is `softfail` or `fail`.
    """

    mx: str
    imap: str
    pop3: str
    submission: str
    caldav: str
    carddav: str
    autoconfig: str
    autodiscover: str
    spf_include: str
    spf_policy: str
    dmarc_policy: str
    validation_label: str
    validation_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """One record to publish. `kind` is its field in GetDomainRecordsResponse.

    `dns_name`, and host names in `dns_value`, end with a dot.
    """

    kind: str
    level: RecordLevel
    dns_type: DnsType
    dns_name: str
    dns_value: str


RECORD_KINDS = (
    "autoconfig",
    "autodiscover",
    "caldav",
    "carddav",
    "dkim",
    "dmarc",
    "domain_validation",
    "imap",
    "mx",
    "pop3",
    "spf",
    "submission",
)
"""The kinds of a domain's records: the fields of GetDomainRecordsResponse."""

VALIDATION_KIND = "domain_validation"
"""The kind of the record that holds the validation token."""

DKIM_KIND, NEXT_DKIM_KIND, PREVIOUS_DKIM_KIND = "dkim", "dkim_next", "dkim_previous"
"""The kinds of the DKIM records: of the key that signs, and of the next and the previous one during a rotation."""


def plan_records(name: str, hosts: MailHosts, *, token: str, dkim_selector: str, dkim_key: str) -> list[RecordPlan]:
    """Return the records of the domain `name`, in the order of RECORD_KINDS.

    `token` is the validation token, `dkim_key` the public key: its DER form as base64 text (RFC 6376, section 3.6.1).
    """
    plans = {plan.kind: plan for plan in _plans(name, hosts, token, dkim_selector, dkim_key)}
    return [plans[kind] for kind in RECORD_KINDS]


def dkim_record(name: str, selector: str, public_key: str) -> tuple[str, str]:
    """Return the name, with a final dot, and the value of the record of a DKIM key of the domain `name`."""
    return f"{selector}._domainkey.{name}.", f"v=DKIM1; h=sha256; k=rsa; p={public_key}"


def _plans(name: str, hosts: MailHosts, token: str, dkim_selector: str, dkim_key: str) -> Iterator[RecordPlan]:
    required, recommended, optional = RecordLevel.REQUIRED, RecordLevel.RECOMMENDED, RecordLevel.OPTIONAL
    txt, cname, srv, mx = DnsType.TXT_DNS_TYPE, DnsType.CNAME_DNS_TYPE, DnsType.SRV_DNS_TYPE, DnsType.MX_DNS_TYPE
    validation_name = f"{hosts.validation_label}.{name}" if hosts.validation_label else name
    dkim_name, dkim_value = dkim_record(name, dkim_selector, dkim_key)
    spf = f"v=spf1 include:{hosts.spf_include} {_SPF_QUALIFIERS[hosts.spf_policy]}all"
    for kind, level, dns_type, dns_name, dns_value in (
        ("domain_validation", required, txt, validation_name, hosts.validation_prefix + token),
        ("mx", required, mx, name, f"10 {hosts.mx}."),
        ("spf", required, txt, name, spf),
        (DKIM_KIND, required, txt, dkim_name.removesuffix("."), dkim_value),
        ("dmarc", required, txt, f"_dmarc.{name}", f"v=DMARC1; p={hosts.dmarc_policy}"),
        ("autoconfig", recommended, cname, f"autoconfig.{name}", f"{hosts.autoconfig}."),
        ("autodiscover", recommended, cname, f"autodiscover.{name}", f"{hosts.autodiscover}."),
        ("imap", recommended, srv, f"_imaps._tcp.{name}", f"0 1 993 {hosts.imap}."),
        ("pop3", recommended, srv, f"_pop3s._tcp.{name}", f"0 1 995 {hosts.pop3}."),
        ("submission", recommended, srv, f"_submissions._tcp.{name}", f"0 1 465 {hosts.submission}."),
        ("caldav", optional, srv, f"_caldavs._tcp.{name}", f"0 1 443 {hosts.caldav}."),
        ("carddav", optional, srv, f"_carddavs._tcp.{name}", f"0 1 443 {hosts.carddav}."),
    ):
        yield RecordPlan(kind=kind, level=level, dns_type=dns_type, dns_name=f"{dns_name}.", dns_value=dns_value)


NAME_OWNED_ELSEWHERE = (
    "another organization owns the name, and its validation token is still published: remove that token from the DNS,"
    " or have that organization delete its domain, and request another validation"
)


def visible_record(record: DomainRecord, domain_status: DomainStatus) -> DomainRecord:
    """Return the record as callers see it: while its domain is validating, without the result of the last lookup."""
    if domain_status is not DomainStatus.VALIDATING:
        return record
    return replace(record, status=RecordStatus.VALIDATING, error=None)


def validation_event(records: Mapping[str, DomainRecord], findings: Mapping[str, Finding]) -> DomainEvent:
    """Return the event that the findings of the required records cause: missing precedes invalid.

    Clients repeat a validation while records are missing, and stop at an invalid one. A record without a finding
    counts as unanswered.
    """
    required = [kind for kind, record in records.items() if record.level is RecordLevel.REQUIRED]
    outcomes = {findings[kind].outcome if kind in findings else Outcome.UNANSWERED for kind in required}
    if outcomes & {Outcome.ABSENT, Outcome.UNANSWERED}:
        return DomainEvent.RECORDS_MISSING
    return DomainEvent.RECORDS_INVALID if Outcome.WRONG in outcomes else DomainEvent.RECORDS_VALID
