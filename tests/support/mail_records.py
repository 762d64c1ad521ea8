"""The twelve DNS records that every domain must publish, as one table for unit, gRPC and SDK tests."""

from collections.abc import Sequence
from dataclasses import dataclass

from postroomd.domain.model import DnsType, RecordLevel

REQUIRED, RECOMMENDED, OPTIONAL = RecordLevel.REQUIRED, RecordLevel.RECOMMENDED, RecordLevel.OPTIONAL
TXT, CNAME, SRV, MX = DnsType.TXT_DNS_TYPE, DnsType.CNAME_DNS_TYPE, DnsType.SRV_DNS_TYPE, DnsType.MX_DNS_TYPE


@dataclass(frozen=True)
class ExpectedRecord:
    """A record of a domain."""

    kind: str
    level: RecordLevel
    dns_type: DnsType
    dns_name: str
    dns_value: str


def expected_records(
    domain_name: str, *, hosts: str, selector: str, dmarc_policy: str, dkim_key: str = "", token: str = ""
) -> Sequence[ExpectedRecord]:
    """Return the records of a domain in the order of the contract. `hosts` is the parent domain of all mail hosts.

    Without `dkim_key` and `token`, the values that contain them are prefixes of the actual ones.
    """
    rows = (
        ("autoconfig", OPTIONAL, CNAME, f"autoconfig.{domain_name}", f"autoconfig.{hosts}."),
        ("autodiscover", OPTIONAL, CNAME, f"autodiscover.{domain_name}", f"autodiscover.{hosts}."),
        ("caldav", OPTIONAL, SRV, f"_caldavs._tcp.{domain_name}", f"0 1 443 dav.{hosts}."),
        ("carddav", OPTIONAL, SRV, f"_carddavs._tcp.{domain_name}", f"0 1 443 dav.{hosts}."),
        ("dkim", REQUIRED, TXT, f"{selector}._domainkey.{domain_name}", f"v=DKIM1; k=rsa; p={dkim_key}"),
        ("dmarc", RECOMMENDED, TXT, f"_dmarc.{domain_name}", f"v=DMARC1; p={dmarc_policy}"),
        ("domain_validation", REQUIRED, TXT, f"_postroom-challenge.{domain_name}", f"postroom-validation={token}"),
        ("imap", OPTIONAL, SRV, f"_imaps._tcp.{domain_name}", f"0 1 993 imap.{hosts}."),
        ("mx", REQUIRED, MX, domain_name, f"10 mx.{hosts}."),
        ("pop3", OPTIONAL, SRV, f"_pop3s._tcp.{domain_name}", f"10 1 995 pop3.{hosts}."),
        ("spf", REQUIRED, TXT, domain_name, f"v=spf1 include:_spf.{hosts} ~all"),
        ("submission", OPTIONAL, SRV, f"_submissions._tcp.{domain_name}", f"0 1 465 smtp.{hosts}."),
    )
    return [ExpectedRecord(*row) for row in rows]
