"""The DNS records of every new domain, with the mail hosts of the default settings."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExpectedRecord:
    """A record as the REST contract shows it. `prefix` precedes the domain's name and a final dot.

    `value` is the whole value, or its beginning if the rest is generated for each domain.
    """

    level: str
    dns_type: str
    prefix: str
    value: str
    generated: bool = False

    def matches(self, value: str) -> bool:
        """Whether a record has the expected value."""
        return value.startswith(self.value) if self.generated else value == self.value


EXPECTED_RECORDS: Mapping[str, ExpectedRecord] = {
    "autoconfig": ExpectedRecord("recommended", "cname_dns_type", "autoconfig.", "autoconfig.mail.example."),
    "autodiscover": ExpectedRecord("recommended", "cname_dns_type", "autodiscover.", "autodiscover.mail.example."),
    "caldav": ExpectedRecord("optional", "srv_dns_type", "_caldavs._tcp.", "0 1 443 caldav.mail.example."),
    "carddav": ExpectedRecord("optional", "srv_dns_type", "_carddavs._tcp.", "0 1 443 carddav.mail.example."),
    "dkim": ExpectedRecord(
        "required", "txt_dns_type", "postroom._domainkey.", "v=DKIM1; h=sha256; k=rsa; p=", generated=True
    ),
    "dmarc": ExpectedRecord("required", "txt_dns_type", "_dmarc.", "v=DMARC1; p=none"),
    "domain_validation": ExpectedRecord(
        "required", "txt_dns_type", "_postroom-challenge.", "postroom-validation=", generated=True
    ),
    "imap": ExpectedRecord("recommended", "srv_dns_type", "_imaps._tcp.", "0 1 993 imap.mail.example."),
    "mx": ExpectedRecord("required", "mx_dns_type", "", "10 mx.mail.example."),
    "pop3": ExpectedRecord("recommended", "srv_dns_type", "_pop3s._tcp.", "0 1 995 pop3.mail.example."),
    "spf": ExpectedRecord("required", "txt_dns_type", "", "v=spf1 include:_spf.mail.example ~all"),
    "submission": ExpectedRecord("recommended", "srv_dns_type", "_submissions._tcp.", "0 1 465 smtp.mail.example."),
}
