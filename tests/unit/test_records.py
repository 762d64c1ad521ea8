"""The twelve DNS records of a domain, and the event of a lookup."""

from datetime import UTC, datetime

import pytest

from postroomd.domain.events import DomainEvent
from postroomd.domain.model import DnsType, DomainRecord, RecordLevel, RecordStatus
from postroomd.domain.records import (
    RECORD_KINDS,
    Finding,
    MailHosts,
    RecordPlan,
    plan_records,
    validation_event,
)

TXT, CNAME, SRV, MX = DnsType.TXT_DNS_TYPE, DnsType.CNAME_DNS_TYPE, DnsType.SRV_DNS_TYPE, DnsType.MX_DNS_TYPE
REQUIRED, RECOMMENDED, OPTIONAL = RecordLevel.REQUIRED, RecordLevel.RECOMMENDED, RecordLevel.OPTIONAL

HOSTS = MailHosts(
    mx="mx.host.test",
    imap="imap.host.test",
    pop3="pop3.host.test",
    submission="smtp.host.test",
    dav="dav.host.test",
    autoconfig="autoconfig.host.test",
    autodiscover="autodiscover.host.test",
    spf_include="_spf.host.test",
    dmarc_policy="quarantine",
)

PLANS = [
    ("autoconfig", OPTIONAL, CNAME, "autoconfig.example.com", "autoconfig.host.test."),
    ("autodiscover", OPTIONAL, CNAME, "autodiscover.example.com", "autodiscover.host.test."),
    ("caldav", OPTIONAL, SRV, "_caldavs._tcp.example.com", "0 1 443 dav.host.test."),
    ("carddav", OPTIONAL, SRV, "_carddavs._tcp.example.com", "0 1 443 dav.host.test."),
    ("dkim", REQUIRED, TXT, "post._domainkey.example.com", "v=DKIM1; k=rsa; p=S0VZ"),
    ("dmarc", RECOMMENDED, TXT, "_dmarc.example.com", "v=DMARC1; p=quarantine"),
    ("domain_validation", REQUIRED, TXT, "_postroom-challenge.example.com", "postroom-validation=T0KEN"),
    ("imap", OPTIONAL, SRV, "_imaps._tcp.example.com", "0 1 993 imap.host.test."),
    ("mx", REQUIRED, MX, "example.com", "10 mx.host.test."),
    ("pop3", OPTIONAL, SRV, "_pop3s._tcp.example.com", "10 1 995 pop3.host.test."),
    ("spf", REQUIRED, TXT, "example.com", "v=spf1 include:_spf.host.test ~all"),
    ("submission", OPTIONAL, SRV, "_submissions._tcp.example.com", "0 1 465 smtp.host.test."),
]


def planned() -> list[RecordPlan]:
    return plan_records("example.com", HOSTS, token="T0KEN", dkim_selector="post", dkim_key="S0VZ")


def records() -> dict[str, DomainRecord]:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    return {
        plan.kind: DomainRecord(
            id=plan.kind,
            domain_id="d",
            kind=plan.kind,
            status=RecordStatus.UNKNOWN_STATUS,
            level=plan.level,
            dns_type=plan.dns_type,
            dns_name=plan.dns_name,
            dns_value=plan.dns_value,
            error=None,
            created_at=now,
            updated_at=now,
        )
        for plan in planned()
    }


@pytest.mark.parametrize("expected", PLANS, ids=[plan[0] for plan in PLANS])
def test_each_record_has_its_level_type_name_and_value(
    expected: tuple[str, RecordLevel, DnsType, str, str],
) -> None:
    (plan,) = [plan for plan in planned() if plan.kind == expected[0]]
    assert (plan.kind, plan.level, plan.dns_type, plan.dns_name, plan.dns_value) == expected


def test_there_are_twelve_kinds_in_the_order_of_the_contract() -> None:
    contract = (
        "autoconfig, autodiscover, caldav, carddav, dkim, dmarc, domain_validation, imap, mx, pop3, spf, submission"
    )
    assert ", ".join(RECORD_KINDS) == contract
    assert [plan.kind for plan in planned()] == list(RECORD_KINDS)
    assert len(planned()) == 12


@pytest.mark.parametrize("plan", planned(), ids=[plan.kind for plan in planned()])
def test_a_host_in_a_value_ends_with_a_dot_and_a_name_does_not(plan: RecordPlan) -> None:
    assert plan.dns_name.endswith("example.com")
    assert plan.dns_value.endswith(".") == (plan.dns_type is not TXT)


def all_valid() -> dict[str, Finding]:
    return {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}


def test_a_domain_is_valid_if_every_record_is() -> None:
    assert validation_event(records(), all_valid()) is DomainEvent.RECORDS_VALID


@pytest.mark.parametrize("plan", planned(), ids=[plan.kind for plan in planned()])
@pytest.mark.parametrize("status", [status for status in RecordStatus if status is not RecordStatus.VALID])
def test_only_a_required_record_that_is_not_valid_fails_the_domain(plan: RecordPlan, status: RecordStatus) -> None:
    findings = all_valid() | {plan.kind: Finding(status, "not there")}
    expected = DomainEvent.RECORDS_INVALID if plan.level is REQUIRED else DomainEvent.RECORDS_VALID
    assert validation_event(records(), findings) is expected


@pytest.mark.parametrize("plan", planned(), ids=[plan.kind for plan in planned()])
def test_only_a_required_record_without_a_finding_fails_the_domain(plan: RecordPlan) -> None:
    findings = all_valid()
    del findings[plan.kind]
    expected = DomainEvent.RECORDS_INVALID if plan.level is REQUIRED else DomainEvent.RECORDS_VALID
    assert validation_event(records(), findings) is expected


def test_a_lookup_without_findings_fails_the_domain() -> None:
    assert validation_event(records(), {}) is DomainEvent.RECORDS_INVALID
