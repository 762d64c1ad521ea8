"""Domains, their planned records, and zone files that publish them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from postroomd.dns import DnsConfig
from postroomd.domain.model import DnsType, Domain, DomainRecord, DomainStatus, RecordStatus
from postroomd.domain.records import plan_records
from tests.support.dns_server import RESOLVER, Internet
from tests.support.mail_hosts import MAIL_HOSTS

NOW = datetime(2024, 1, 31, 12, 30, tzinfo=UTC)
NAME = "example.com"
TOKEN = "0123456789abcdef0123456789abcdef"
DKIM_KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" + "Postroom" * 45  # the length of an RSA-2048 key

TYPES = {
    DnsType.CNAME_DNS_TYPE: "CNAME",
    DnsType.MX_DNS_TYPE: "MX",
    DnsType.SRV_DNS_TYPE: "SRV",
    DnsType.TXT_DNS_TYPE: "TXT",
}


def make_domain(name: str = NAME, status: DomainStatus = DomainStatus.VALIDATING) -> Domain:
    return Domain(
        id=str(uuid4()),
        organization_id=str(uuid4()),
        project_id=str(uuid4()),
        name=name,
        status=status,
        mailbox_total_count=0,
        created_at=NOW,
        updated_at=NOW,
    )


def records_of(domain: Domain, token: str = TOKEN) -> dict[str, DomainRecord]:
    return {
        plan.kind: DomainRecord(
            id=str(uuid4()),
            domain_id=domain.id,
            kind=plan.kind,
            status=RecordStatus.UNKNOWN_STATUS,
            level=plan.level,
            dns_type=plan.dns_type,
            dns_name=plan.dns_name,
            dns_value=plan.dns_value,
            error=None,
            created_at=NOW,
            updated_at=NOW,
        )
        for plan in plan_records(domain.name, MAIL_HOSTS, token=token, dkim_selector="post", dkim_key=DKIM_KEY)
    }


def record(kind: str, value: str | None = None) -> DomainRecord:
    """Return one record of example.com."""
    planned = records_of(make_domain())[kind]
    return planned if value is None else replace(planned, dns_value=value)


def txt_strings(text: str, size: int = 255) -> str:
    """Return a text as the strings of a TXT record in a zone file."""
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)


def zone(records: Mapping[str, DomainRecord], overrides: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return a zone file that publishes the records; `overrides` maps a kind to its lines `TYPE VALUE`."""
    lines = []
    for kind, planned in records.items():
        value = txt_strings(planned.dns_value) if planned.dns_type is DnsType.TXT_DNS_TYPE else planned.dns_value
        published = (overrides or {}).get(kind, [f"{TYPES[planned.dns_type]} {value}"])
        lines += [f"{planned.dns_name.removesuffix('.')}. 60 IN {line}" for line in published]
    return "\n".join(lines) + "\n"


def dns_config(internet: Internet, **changes: object) -> DnsConfig:
    """Return a configuration for the servers of the tests, with timeouts that tolerate a busy machine."""
    values: dict[str, object] = {
        "resolvers": (f"{RESOLVER}:{internet.port}",),
        "authoritative_port": internet.port,
        "allow_private": True,
        "timeout_seconds": 10.0,
        "deadline_seconds": 30.0,
    }
    return DnsConfig(**(values | changes))  # type: ignore[arg-type] # values of several types
