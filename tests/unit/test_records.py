"""The twelve DNS records of a domain, and the event of a lookup."""

from dataclasses import replace
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
from tests.support.expected_records import EXPECTED_RECORDS
from tests.support.mail_hosts import MAIL_HOSTS


def planned(hosts: MailHosts = MAIL_HOSTS) -> list[RecordPlan]:
    return plan_records("example.com", hosts, token="T0KEN", dkim_selector="postroom", dkim_key="S0VZ")


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


@pytest.mark.parametrize("kind", RECORD_KINDS)
def test_each_record_has_its_level_type_name_and_value(kind: str) -> None:
    (plan,) = [plan for plan in planned() if plan.kind == kind]
    expected = EXPECTED_RECORDS[kind]
    generated = {"dkim": "S0VZ", "domain_validation": "T0KEN"}.get(kind, "")
    assert (plan.level, plan.dns_type) == (expected.level, expected.dns_type)
    assert plan.dns_name == expected.prefix + "example.com."
    assert plan.dns_value == expected.value + generated


def test_dmarc_record_has_the_configured_policy() -> None:
    plans = planned(replace(MAIL_HOSTS, dmarc_policy="quarantine"))
    assert [plan.dns_value for plan in plans if plan.kind == "dmarc"] == ["v=DMARC1; p=quarantine"]


@pytest.mark.parametrize(("policy", "value"), [("softfail", "~all"), ("fail", "-all")])
def test_spf_record_ends_with_the_configured_policy(policy: str, value: str) -> None:
    plans = {plan.kind: plan for plan in planned(replace(MAIL_HOSTS, spf_policy=policy))}
    assert plans["spf"].dns_value == f"v=spf1 include:_spf.mail.example {value}"


def test_validation_record_has_the_configured_label_and_prefix() -> None:
    for label, name in (("_proof", "_proof.example.com."), ("", "example.com.")):
        hosts = replace(MAIL_HOSTS, validation_label=label, validation_prefix="mail-proof=")
        plans = {plan.kind: plan for plan in planned(hosts)}
        assert (plans["domain_validation"].dns_name, plans["domain_validation"].dns_value) == (name, "mail-proof=T0KEN")


def test_there_are_twelve_kinds_in_the_order_of_the_contract() -> None:
    contract = (
        "autoconfig, autodiscover, caldav, carddav, dkim, dmarc, domain_validation, imap, mx, pop3, spf, submission"
    )
    assert ", ".join(RECORD_KINDS) == contract
    assert [plan.kind for plan in planned()] == list(RECORD_KINDS)
    assert len(planned()) == 12


@pytest.mark.parametrize("plan", planned(), ids=[plan.kind for plan in planned()])
def test_a_name_and_a_host_in_a_value_end_with_a_dot(plan: RecordPlan) -> None:
    assert plan.dns_name.endswith("example.com.")
    assert plan.dns_value.endswith(".") == (plan.dns_type is not DnsType.TXT_DNS_TYPE)


def all_valid() -> dict[str, Finding]:
    return {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}


def test_a_domain_is_valid_if_every_record_is() -> None:
    assert validation_event(records(), all_valid()) is DomainEvent.RECORDS_VALID


@pytest.mark.parametrize("plan", planned(), ids=[plan.kind for plan in planned()])
@pytest.mark.parametrize(
    ("status", "event"),
    [
        (RecordStatus.INVALID, DomainEvent.RECORDS_INVALID),
        (RecordStatus.NOT_FOUND, DomainEvent.RECORDS_MISSING),
        (RecordStatus.UNKNOWN_STATUS, DomainEvent.RECORDS_MISSING),
    ],
)
def test_only_required_records_decide_the_event(plan: RecordPlan, status: RecordStatus, event: DomainEvent) -> None:
    findings = all_valid() | {plan.kind: Finding(status, "not valid")}
    expected = event if plan.level is RecordLevel.REQUIRED else DomainEvent.RECORDS_VALID
    assert validation_event(records(), findings) is expected


@pytest.mark.parametrize("status", [RecordStatus.NOT_FOUND, RecordStatus.UNKNOWN_STATUS])
def test_a_missing_record_takes_precedence_over_an_invalid_one(status: RecordStatus) -> None:
    findings = all_valid() | {"spf": Finding(RecordStatus.INVALID, "wrong"), "mx": Finding(status, "missing")}
    assert validation_event(records(), findings) is DomainEvent.RECORDS_MISSING


def test_a_warning_does_not_block_the_domain() -> None:
    findings = all_valid() | {"spf": Finding(RecordStatus.VALID, "a warning")}
    assert validation_event(records(), findings) is DomainEvent.RECORDS_VALID


@pytest.mark.parametrize("plan", planned(), ids=[plan.kind for plan in planned()])
def test_a_required_record_without_a_finding_is_missing(plan: RecordPlan) -> None:
    findings = all_valid()
    del findings[plan.kind]
    expected = DomainEvent.RECORDS_MISSING if plan.level is RecordLevel.REQUIRED else DomainEvent.RECORDS_VALID
    assert validation_event(records(), findings) is expected


def test_no_findings_means_records_are_missing() -> None:
    assert validation_event(records(), {}) is DomainEvent.RECORDS_MISSING
