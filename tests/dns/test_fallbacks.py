"""Records that are absent at their own name: the organizational DMARC policy, doubled names, trailing dots."""

from dataclasses import replace

import pytest

from postroomd.dns import DnsProber
from postroomd.domain.model import DnsType, RecordStatus
from postroomd.domain.records import RECORD_KINDS, Finding
from tests.support.dns_probe import INVALID, NOT_FOUND, RECORDS, VALID, faults, first_server, probe, second_server
from tests.support.dns_records import NAME, TYPES, dns_config, make_domain, records_of, txt_strings, zone
from tests.support.dns_server import Internet, ReceivedQuery, Reply, no_reply

SUBDOMAIN = "mail.example.com"


async def probe_subdomain(internet: Internet, organizational: str | None, own_line: str | None = None) -> Finding:
    """Probe mail.example.com within the zone example.com, and return the DMARC finding."""
    domain = make_domain(SUBDOMAIN)
    records = records_of(domain)
    text = zone(records, {"dmarc": [] if own_line is None else [own_line]})
    if organizational is not None:
        text += f"_dmarc 60 IN {organizational}\n"
    internet.publish(NAME, text)
    findings = await DnsProber(dns_config(internet)).probe(domain, records)
    assert {kind for kind, finding in findings.items() if finding.status is not VALID} <= {"dmarc"}
    return findings["dmarc"]


@pytest.mark.parametrize("own_dmarc", [None, 'TXT "unrelated"', "CNAME nothing.example.com."])
async def test_the_organizational_dmarc_policy_applies(internet: Internet, own_dmarc: str | None) -> None:
    finding = await probe_subdomain(internet, 'TXT "v=DMARC1; p=reject"', own_dmarc)
    assert finding.status is VALID
    assert finding.error == (
        "_dmarc.mail.example.com has no DMARC record: the policy of _dmarc.example.com applies"
        " (RFC 7489, section 6.6.3)"
    )


async def test_an_own_dmarc_record_takes_precedence(internet: Internet) -> None:
    finding = await probe_subdomain(internet, 'TXT "v=DMARC1; p=reject"', 'TXT "v=DMARC1; p=no"')
    assert finding.status is INVALID
    assert "tag p is malformed" in (finding.error or "")


async def test_an_invalid_organizational_dmarc_record_is_explained(internet: Internet) -> None:
    finding = await probe_subdomain(internet, 'TXT "v=DMARC1; p=no"')
    assert finding.status is NOT_FOUND
    assert "the policy of _dmarc.example.com does not apply: the DMARC record's tag p is malformed" in (
        finding.error or ""
    )


async def test_a_missing_organizational_dmarc_record_changes_nothing(internet: Internet) -> None:
    finding = await probe_subdomain(internet, None)
    assert finding.status is NOT_FOUND
    assert (finding.error or "").startswith("the name _dmarc.mail.example.com does not exist")


def line_of(kind: str) -> str:
    record = RECORDS[kind]
    value = txt_strings(record.dns_value) if record.dns_type is DnsType.TXT_DNS_TYPE else record.dns_value
    return f"{record.dns_name.removesuffix('.')}.{NAME}. 60 IN {TYPES[record.dns_type]} {value}\n"


@pytest.mark.parametrize("kind", RECORD_KINDS)
async def test_a_record_under_a_doubled_name_is_explained(internet: Internet, kind: str) -> None:
    internet.publish(NAME, zone(RECORDS, {kind: []}) + line_of(kind))
    found = faults(await probe(internet))
    assert set(found) == {kind}
    status, error = found[kind]
    name = RECORDS[kind].dns_name.removesuffix(".")
    label = name.removesuffix(f".{NAME}") if name != NAME else "@"
    assert status is NOT_FOUND
    assert error.startswith(
        f"published as {name}.{NAME}: enter the name as `{label}`, because the DNS panel appends {NAME}; "
    )
    assert "expected" in error


async def test_the_zone_of_a_subdomain_is_what_a_panel_appends(internet: Internet) -> None:
    domain = make_domain(SUBDOMAIN)
    records = records_of(domain)
    doubled = f'_postroom-challenge.mail.{NAME}.{NAME}. 60 IN TXT "{records["domain_validation"].dns_value}"\n'
    internet.publish(NAME, zone(records, {"domain_validation": []}) + doubled)
    findings = await DnsProber(dns_config(internet)).probe(domain, records)
    assert "enter the name as `_postroom-challenge.mail`" in (findings["domain_validation"].error or "")


async def test_a_wildcard_is_not_a_doubled_name(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS, {kind: [] for kind in RECORDS}) + '* 60 IN TXT "x"\n* 60 IN MX 5 else.test.\n')
    assert not [error for _, error in (await probe(internet)).values() if "published as" in error]


async def test_doubled_names_cost_one_query_when_none_exists(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS, {kind: [] for kind in RECORDS}))
    assert {status for status, _ in (await probe(internet)).values()} == {NOT_FOUND}
    assert len(internet.queries) == len(RECORDS) + 1 + 2  # the token was looked for at both servers


async def test_a_failed_fallback_keeps_the_finding(internet: Internet) -> None:
    def no_doubled(received: ReceivedQuery) -> Reply:
        return no_reply(received) if f"{NAME}.{NAME}" in received.name.to_text() else internet.authority(received)

    internet.publish(NAME, zone(RECORDS, {"mx": []}))
    first_server(internet).handler = second_server(internet).handler = no_doubled
    status, error = faults(await probe(internet, timeout_seconds=1.0))["mx"]
    assert status is NOT_FOUND
    assert error.startswith("example.com has no MX record")


async def test_names_and_targets_may_have_trailing_dots(internet: Internet) -> None:
    dotted = {
        kind: replace(record, dns_name=f"{record.dns_name.removesuffix('.')}.") for kind, record in RECORDS.items()
    }
    undotted = {
        kind: replace(record, dns_name=record.dns_name.removesuffix("."), dns_value=record.dns_value.removesuffix("."))
        for kind, record in RECORDS.items()
    }
    internet.publish(NAME, zone(RECORDS))
    for records in (dotted, undotted):
        findings = await DnsProber(dns_config(internet)).probe(make_domain(), records)
        assert set(findings.values()) == {Finding(RecordStatus.VALID)}
    internet.publish(NAME, "")
    findings = await DnsProber(dns_config(internet)).probe(make_domain(), dotted)
    assert (findings["dmarc"].error or "").startswith("the name _dmarc.example.com does not exist")


async def test_a_name_too_long_to_be_doubled_is_not_looked_up_doubled(internet: Internet) -> None:
    domain = make_domain(".".join(["a" * 60, "b" * 60, "c" * 20, "test"]))
    records = records_of(domain)
    await internet.delegate(domain.name, "127.0.0.1")
    internet.publish(domain.name, zone(records, {"mx": []}))
    findings = await DnsProber(dns_config(internet)).probe(domain, records)
    assert {kind for kind, finding in findings.items() if finding.status is not VALID} == {"mx"}
    assert findings["mx"].status is NOT_FOUND
