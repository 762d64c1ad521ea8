"""Lookups of published records at the authoritative servers of a domain."""

import pytest
from dns.rdatatype import RdataType

from postroomd.dns import DnsProber
from postroomd.domain.model import RecordStatus
from postroomd.domain.records import RECORD_KINDS
from tests.support.dns_probe import INVALID, NOT_FOUND, RECORDS, UNANSWERED, VALID, faults, probe
from tests.support.dns_records import DKIM_KEY, NAME, TOKEN, dns_config, make_domain, records_of, txt_strings, zone
from tests.support.dns_server import Internet
from tests.support.mail_hosts import MAIL_HOSTS


async def probe_with(internet: Internet, kind: str, *lines: str) -> tuple[RecordStatus, str]:
    """Return the finding of one record published with other lines, all other records being valid."""
    internet.publish(NAME, zone(RECORDS, {kind: lines}))
    found = faults(await probe(internet))
    assert set(found) <= {kind}
    return found.get(kind, (VALID, ""))


async def test_all_twelve_published_records_are_valid(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    assert not faults(await probe(internet))
    assert not any(received.tcp for received in internet.queries)
    assert len(internet.queries) == len(RECORDS)


async def test_resolvers_are_asked_only_for_name_servers(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    await probe(internet)
    assert not any(received.query.flags & 0x0100 for received in internet.queries)
    assert {received.rdtype for received in internet.resolver.queries} == {RdataType.NS, RdataType.A, RdataType.AAAA}


@pytest.mark.parametrize("kind", RECORD_KINDS)
async def test_a_missing_record_is_not_found(internet: Internet, kind: str) -> None:
    status, error = await probe_with(internet, kind)
    assert status is NOT_FOUND
    assert "expected" in error
    assert RECORDS[kind].dns_value[:60] in error


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("autoconfig", "CNAME wrong.test."),
        ("autodiscover", "CNAME wrong.test."),
        ("caldav", "SRV 0 1 443 wrong.test."),
        ("carddav", "SRV 0 1 8443 dav.mail.example."),
        ("dkim", 'TXT "v=DKIM1; k=rsa; p=wrong"'),
        ("dmarc", 'TXT "v=DMARC1; p=wrong"'),
        ("domain_validation", 'TXT "postroom-validation=wrong"'),
        ("imap", "SRV 0 1 993 wrong.test."),
        ("mx", "MX 10 wrong.test."),
        ("pop3", "SRV 10 1 995 wrong.test."),
        ("spf", 'TXT "v=spf1 include:wrong.test ~all"'),
        ("submission", "SRV 0 1 465 wrong.test."),
    ],
)
async def test_a_wrong_record_is_invalid(internet: Internet, kind: str, line: str) -> None:
    await internet.delegate("wrong.test", "127.0.0.1")
    internet.publish("wrong.test", "")
    status, error = await probe_with(internet, kind, line)
    assert status is INVALID
    assert "found" in error
    assert "expected" in error


async def test_strings_of_a_txt_record_are_concatenated(internet: Internet) -> None:
    texts = {
        "dkim": [f"TXT {txt_strings(RECORDS['dkim'].dns_value, 40)}"],
        "spf": [f'TXT "v=sp" "f1 include:" "{MAIL_HOSTS.spf_include} -all"'],
    }
    internet.publish(NAME, zone(RECORDS, texts))
    assert not faults(await probe(internet))


async def test_two_spf_records_are_invalid(internet: Internet) -> None:
    status, error = await probe_with(internet, "spf", f'TXT "{RECORDS["spf"].dns_value}"', 'TXT "v=spf1 -all"')
    assert status is INVALID
    assert "2 SPF records" in error
    assert "RFC 7208" in error


async def test_spf_is_found_among_other_records_and_terms(internet: Internet) -> None:
    await internet.delegate("x.test", "127.0.0.3")
    internet.publish("x.test", '@ 60 IN TXT "v=spf1 ip4:192.0.2.0/24 -all"\n')
    lines = ('TXT "ms=123"', f'TXT "v=spf1 mx ip6:2001:db8::/32 include:{MAIL_HOSTS.spf_include} include:x.test -all"')
    assert await probe_with(internet, "spf", *lines) == (VALID, "")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["MX 5 mx.mail.example.", "MX 20 backup.test."], VALID),
        (["MX 20 MX.MAIL.EXAMPLE.", "MX 5 other.test."], INVALID),
        (["MX 5 mx.mail.example.", "MX 5 other.test."], INVALID),
    ],
)
async def test_the_expected_mx_must_be_preferred(internet: Internet, lines: list[str], status: RecordStatus) -> None:
    assert (await probe_with(internet, "mx", *lines))[0] is status


async def test_a_cname_chain_may_pass_through_other_zones(internet: Internet) -> None:
    await internet.delegate("other.test", "127.0.0.3")
    internet.publish("other.test", "a 60 IN CNAME b\nb 60 IN CNAME c.example.com.\n")
    text = zone(RECORDS, {"autoconfig": ["CNAME A.Other.test."]}) + "c 60 IN CNAME autoconfig.MAIL.example.\n"
    internet.publish(NAME, text)
    assert not faults(await probe(internet))


async def test_a_txt_record_behind_a_cname_is_valid(internet: Internet) -> None:
    await internet.delegate("keys.test", "127.0.0.3")
    internet.publish("keys.test", f"post 60 IN TXT {txt_strings(RECORDS['dkim'].dns_value)}\n")
    assert await probe_with(internet, "dkim", "CNAME post.keys.test.") == (VALID, "")


async def test_a_dangling_cname_is_reported_with_its_chain(internet: Internet) -> None:
    await internet.delegate("keys.test", "127.0.0.3")
    internet.publish("keys.test", "")
    status, error = await probe_with(internet, "dkim", "CNAME post.keys.test.")
    assert status is NOT_FOUND
    assert "the name post.keys.test does not exist" in error
    assert "followed post._domainkey.example.com -> post.keys.test" in error


async def test_cname_loops_are_invalid(internet: Internet) -> None:
    text = zone(RECORDS, {"autoconfig": ["CNAME one"], "dmarc": ["CNAME _dmarc"]})
    internet.publish(NAME, text + "one 60 IN CNAME two\ntwo 60 IN CNAME one\n")
    found = faults(await probe(internet))
    assert set(found) == {"autoconfig", "dmarc"}
    assert found["autoconfig"][0] is found["dmarc"][0] is INVALID
    assert "loop" in found["autoconfig"][1]
    assert "_dmarc.example.com -> _dmarc.example.com" in found["dmarc"][1]


async def test_cname_chains_are_followed_to_a_limit(internet: Internet) -> None:
    chain = "".join(f"n{number} 60 IN CNAME n{number + 1}\n" for number in range(40))
    internet.publish(NAME, zone(RECORDS, {"autoconfig": ["CNAME n0"]}) + chain)
    found = faults(await probe(internet))
    assert found["autoconfig"][0] is INVALID
    assert "is too long" in found["autoconfig"][1]
    assert len(internet.queries) < 25


async def test_a_wildcard_txt_record_is_not_a_token(internet: Internet) -> None:
    without: dict[str, list[str]] = {kind: [] for kind in RECORDS if kind not in {"mx", "spf"}}
    internet.publish(NAME, zone(RECORDS, without) + '* 60 IN TXT "anything"\n')
    found = await probe(internet)
    assert found["domain_validation"][0] is NOT_FOUND
    assert 'found "anything"' in found["domain_validation"][1]
    assert found["dkim"][0] is found["dmarc"][0] is NOT_FOUND
    assert found["imap"][0] is found["autoconfig"][0] is NOT_FOUND


async def test_a_wildcard_cname_is_followed(internet: Internet) -> None:
    await internet.delegate("park.test", "127.0.0.3")
    internet.publish("park.test", "")
    internet.publish(NAME, zone(RECORDS, {kind: [] for kind in RECORDS}) + "* 60 IN CNAME www.park.test.\n")
    found = await probe(internet)
    assert found["autoconfig"][0] is INVALID
    assert found["domain_validation"][0] is NOT_FOUND
    assert "www.park.test" in found["domain_validation"][1]


async def test_all_of_255_records_under_a_name_are_compared(internet: Internet) -> None:
    others = [f'TXT "{number:0100}"' for number in range(254)]
    lines = [*others, f'TXT "postroom-validation={TOKEN}"']
    assert await probe_with(internet, "domain_validation", *lines) == (VALID, "")
    assert any(received.tcp for received in internet.queries)

    status, error = await probe_with(internet, "domain_validation", *others, 'TXT "else"')
    assert status is NOT_FOUND
    assert "and 252 more" in error


async def test_names_of_an_unregistered_domain_are_not_found(internet: Internet) -> None:
    internet.set_resolver_records(NAME, RdataType.NS)
    await internet.delegate("com", "127.0.0.4")
    internet.publish("com", "")
    found = await probe(internet)
    assert {status for status, _ in found.values()} == {NOT_FOUND}
    assert "the name _dmarc.example.com does not exist" in found["dmarc"][1]


async def test_a_subdomain_is_looked_up_in_its_enclosing_zone(internet: Internet) -> None:
    domain = make_domain("mail.example.co.uk")
    records = records_of(domain)
    await internet.delegate("example.co.uk", "127.0.0.5")
    internet.publish("example.co.uk", zone(records))
    findings = await DnsProber(dns_config(internet)).probe(domain, records)
    assert {finding.status for finding in findings.values()} == {VALID}


async def test_delegations_within_a_domain_are_followed(internet: Internet) -> None:
    await internet.delegate("_domainkey.example.com", "127.0.0.6")
    await internet.delegate("_tcp.example.com", "127.0.0.6")
    srv_records = "".join(
        f"{RECORDS[kind].dns_name.removesuffix('.')}. 60 IN SRV {RECORDS[kind].dns_value}\n"
        for kind in RECORDS
        if "_tcp" in RECORDS[kind].dns_name
    )
    internet.servers["127.0.0.6"].handler = child_zones = type(internet.authority)()
    child_zones.serve("_tcp.example.com", srv_records)
    child_zones.serve("_domainkey.example.com", f"post 60 IN TXT {txt_strings(RECORDS['dkim'].dns_value)}\n")
    text = zone(RECORDS, {kind: [] for kind in RECORDS if "_tcp" in RECORDS[kind].dns_name or kind == "dkim"})
    cuts = "_tcp 60 IN NS ns1._tcp\n_domainkey 60 IN NS ns1._domainkey\n"
    internet.publish(NAME, text + cuts)
    assert not faults(await probe(internet))


async def test_host_names_are_compared_case_insensitively(internet: Internet) -> None:
    upper = {
        kind: [f"{type_name} {record.dns_value.upper()}"]
        for kind, record in RECORDS.items()
        for type_name in [record.dns_type.value.split("_")[0].upper()]
        if type_name != "TXT"
    }
    internet.publish(NAME, zone(RECORDS, upper))
    assert not faults(await probe(internet))


async def test_an_internationalized_name_is_queried_as_a_labels(internet: Internet) -> None:
    domain = make_domain("xn--bcher-kva.example")
    records = records_of(domain)
    await internet.delegate(domain.name, "127.0.0.7")
    internet.publish(domain.name, zone(records))
    findings = await DnsProber(dns_config(internet)).probe(domain, records)
    assert {finding.status for finding in findings.values()} == {VALID}


async def test_a_domain_name_too_long_for_record_labels_fails(internet: Internet) -> None:
    domain = make_domain(".".join(["x" * 61] * 3 + ["y" * 51, "example"]))
    assert len(domain.name) > 240
    records = records_of(domain)
    await internet.delegate("example", "127.0.0.7")
    internet.publish("example", "")
    findings = await DnsProber(dns_config(internet)).probe(domain, records)
    assert findings["mx"].status is NOT_FOUND
    assert findings["dkim"].status is UNANSWERED
    assert "exceeds the 253 octets of a DNS name" in (findings["dkim"].error or "")


async def test_servers_are_queried_over_ipv6(internet: Internet) -> None:
    await internet.delegate(NAME, "::1")
    internet.set_resolver_records(f"ns1.{NAME}", RdataType.A)
    internet.publish(NAME, zone(RECORDS))
    assert not faults(await probe(internet))
    assert len(internet.servers["::1"].queries) == len(RECORDS)


def test_the_dkim_key_of_the_tests_needs_two_strings() -> None:
    assert len(DKIM_KEY) > 255


async def test_spf_may_include_ours_in_another_zone(internet: Internet) -> None:
    await internet.delegate("x.test", "127.0.0.3")
    internet.publish("x.test", f'@ 60 IN TXT "v=spf1 redirect=a.x.test"\na 60 IN TXT "{RECORDS["spf"].dns_value}"\n')
    assert await probe_with(internet, "spf", 'TXT "v=spf1 include:x.test -all"') == (VALID, "")


async def test_a_failing_spf_include_leaves_the_record_unanswered(internet: Internet) -> None:
    status, error = await probe_with(internet, "spf", 'TXT "v=spf1 include:x.test -all"')
    assert status is UNANSWERED
    assert 'the lookup of SPF term "include:x.test" failed: neither it nor any parent name has name servers' in error


async def test_two_dkim_keys_are_invalid_in_either_order(internet: Internet) -> None:
    lines = [f"TXT {txt_strings(RECORDS['dkim'].dns_value)}", 'TXT "v=DKIM1; k=rsa; p=else"']
    results = [await probe_with(internet, "dkim", *order) for order in (lines, lines[::-1])]
    assert results[0] == results[1]
    assert results[0][0] is INVALID
    assert "2 DKIM keys are published under one selector: publish one" in results[0][1]
