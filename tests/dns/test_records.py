"""Records looked up at the authoritative servers of a domain."""

import pytest
from dns.rdatatype import RdataType

from postroomd.dns import DnsProber
from postroomd.domain.model import RecordStatus
from postroomd.domain.records import RECORD_KINDS
from tests.support.dns_probing import INVALID, NOT_FOUND, RECORDS, VALID, faults, probe
from tests.support.dns_records import DKIM_KEY, HOSTS, NAME, TOKEN, a_domain, config, records_of, strings, zone
from tests.support.dns_server import Internet


async def one_fault(internet: Internet, kind: str, *lines: str) -> tuple[RecordStatus, str]:
    """What is found where a kind's record is published otherwise, and all others as they should be."""
    internet.publish(NAME, zone(RECORDS, {kind: lines}))
    found = faults(await probe(internet))
    assert set(found) <= {kind}
    return found.get(kind, (VALID, ""))


async def test_all_twelve_are_valid_where_all_are_published(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    assert not faults(await probe(internet))
    assert not any(asked.tcp for asked in internet.asked)
    assert len(internet.asked) == len(RECORDS)


async def test_authorities_are_asked_not_to_recurse_and_resolvers_only_for_servers(internet: Internet) -> None:
    internet.publish(NAME, zone(RECORDS))
    await probe(internet)
    assert not any(asked.query.flags & 0x0100 for asked in internet.asked)
    assert {asked.rdtype for asked in internet.resolver.asked} == {RdataType.NS, RdataType.A, RdataType.AAAA}


@pytest.mark.parametrize("kind", RECORD_KINDS)
async def test_a_missing_record_is_not_found(internet: Internet, kind: str) -> None:
    status, error = await one_fault(internet, kind)
    assert status is NOT_FOUND
    assert "expected" in error
    assert RECORDS[kind].dns_value[:60] in error


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("autoconfig", "CNAME wrong.test."),
        ("autodiscover", "CNAME wrong.test."),
        ("caldav", "SRV 0 1 443 wrong.test."),
        ("carddav", "SRV 0 1 8443 dav.host.test."),
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
    status, error = await one_fault(internet, kind, line)
    assert status is INVALID
    assert "found" in error
    assert "expected" in error


async def test_strings_of_a_text_are_joined(internet: Internet) -> None:
    texts = {
        "dkim": [f"TXT {strings(RECORDS['dkim'].dns_value, 40)}"],
        "spf": [f'TXT "v=sp" "f1 include:" "{HOSTS.spf_include} -all"'],
    }
    internet.publish(NAME, zone(RECORDS, texts))
    assert not faults(await probe(internet))


async def test_two_spf_records_are_one_too_many(internet: Internet) -> None:
    status, error = await one_fault(internet, "spf", f'TXT "{RECORDS["spf"].dns_value}"', 'TXT "v=spf1 -all"')
    assert status is INVALID
    assert "2 SPF records" in error
    assert "RFC 7208" in error


async def test_spf_stands_among_other_texts_and_terms(internet: Internet) -> None:
    lines = ('TXT "ms=123"', f'TXT "v=spf1 mx ip6:2001:db8::/32 include:{HOSTS.spf_include} include:x.test -all"')
    assert await one_fault(internet, "spf", *lines) == (VALID, "")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["MX 5 mx.host.test.", "MX 20 backup.test."], VALID),
        (["MX 20 MX.HOST.TEST.", "MX 5 other.test."], INVALID),
        (["MX 5 mx.host.test.", "MX 5 other.test."], INVALID),
    ],
)
async def test_our_mx_comes_first(internet: Internet, lines: list[str], status: RecordStatus) -> None:
    assert (await one_fault(internet, "mx", *lines))[0] is status


async def test_an_alias_may_lead_to_ours_through_other_zones(internet: Internet) -> None:
    await internet.delegate("other.test", "127.0.0.3")
    internet.publish("other.test", "a 60 IN CNAME b\nb 60 IN CNAME c.example.com.\n")
    text = zone(RECORDS, {"autoconfig": ["CNAME A.Other.test."]}) + "c 60 IN CNAME autoconfig.HOST.test.\n"
    internet.publish(NAME, text)
    assert not faults(await probe(internet))


async def test_a_text_behind_an_alias_counts(internet: Internet) -> None:
    await internet.delegate("keys.test", "127.0.0.3")
    internet.publish("keys.test", f"post 60 IN TXT {strings(RECORDS['dkim'].dns_value)}\n")
    assert await one_fault(internet, "dkim", "CNAME post.keys.test.") == (VALID, "")


async def test_an_alias_that_leads_to_no_name_is_told(internet: Internet) -> None:
    await internet.delegate("keys.test", "127.0.0.3")
    internet.publish("keys.test", "")
    status, error = await one_fault(internet, "dkim", "CNAME post.keys.test.")
    assert status is NOT_FOUND
    assert "there is no name post.keys.test" in error
    assert "followed post._domainkey.example.com -> post.keys.test" in error


async def test_aliases_in_a_loop_are_invalid(internet: Internet) -> None:
    text = zone(RECORDS, {"autoconfig": ["CNAME one"], "dmarc": ["CNAME _dmarc"]})
    internet.publish(NAME, text + "one 60 IN CNAME two\ntwo 60 IN CNAME one\n")
    found = faults(await probe(internet))
    assert set(found) == {"autoconfig", "dmarc"}
    assert found["autoconfig"][0] is found["dmarc"][0] is INVALID
    assert "loop" in found["autoconfig"][1]
    assert "_dmarc.example.com -> _dmarc.example.com" in found["dmarc"][1]


async def test_aliases_are_followed_a_bounded_way(internet: Internet) -> None:
    chain = "".join(f"n{number} 60 IN CNAME n{number + 1}\n" for number in range(40))
    internet.publish(NAME, zone(RECORDS, {"autoconfig": ["CNAME n0"]}) + chain)
    found = faults(await probe(internet))
    assert found["autoconfig"][0] is INVALID
    assert "for too long" in found["autoconfig"][1]
    assert len(internet.asked) < 25


async def test_a_wildcard_text_is_no_token(internet: Internet) -> None:
    without: dict[str, list[str]] = {kind: [] for kind in RECORDS if kind not in {"mx", "spf"}}
    internet.publish(NAME, zone(RECORDS, without) + '* 60 IN TXT "anything"\n')
    found = await probe(internet)
    assert found["domain_validation"][0] is INVALID
    assert 'found "anything"' in found["domain_validation"][1]
    assert found["dkim"][0] is found["dmarc"][0] is INVALID
    assert found["imap"][0] is found["autoconfig"][0] is NOT_FOUND


async def test_a_wildcard_alias_is_followed_and_compared(internet: Internet) -> None:
    await internet.delegate("park.test", "127.0.0.3")
    internet.publish("park.test", "")
    internet.publish(NAME, zone(RECORDS, {kind: [] for kind in RECORDS}) + "* 60 IN CNAME www.park.test.\n")
    found = await probe(internet)
    assert found["autoconfig"][0] is INVALID
    assert found["domain_validation"][0] is NOT_FOUND
    assert "www.park.test" in found["domain_validation"][1]


async def test_255_records_under_a_name_are_all_looked_at(internet: Internet) -> None:
    others = [f'TXT "{number:0100}"' for number in range(254)]
    lines = [*others, f'TXT "postroom-validation={TOKEN}"']
    assert await one_fault(internet, "domain_validation", *lines) == (VALID, "")
    assert any(asked.tcp for asked in internet.asked)

    status, error = await one_fault(internet, "domain_validation", *others, 'TXT "postroom-validation=else"')
    assert status is INVALID
    assert "and 252 more" in error


async def test_the_names_of_an_unregistered_domain_are_not_there(internet: Internet) -> None:
    internet.tell(NAME, RdataType.NS)
    await internet.delegate("com", "127.0.0.4")
    internet.publish("com", "")
    found = await probe(internet)
    assert {status for status, _ in found.values()} == {NOT_FOUND}
    assert "there is no name _dmarc.example.com in the DNS" in found["dmarc"][1]


async def test_a_name_below_its_zone_is_asked_of_the_zone_around_it(internet: Internet) -> None:
    domain = a_domain("mail.example.co.uk")
    records = records_of(domain)
    await internet.delegate("example.co.uk", "127.0.0.5")
    internet.publish("example.co.uk", zone(records))
    findings = await DnsProber(config(internet)).probe(domain, records)
    assert {finding.status for finding in findings.values()} == {VALID}


async def test_delegations_inside_a_domain_are_followed(internet: Internet) -> None:
    await internet.delegate("_domainkey.example.com", "127.0.0.6")
    await internet.delegate("_tcp.example.com", "127.0.0.6")
    below = "".join(
        f"{RECORDS[kind].dns_name}. 60 IN SRV {RECORDS[kind].dns_value}\n"
        for kind in RECORDS
        if "_tcp" in RECORDS[kind].dns_name
    )
    internet.servers["127.0.0.6"].answering = deeper = type(internet.authority)()
    deeper.serve("_tcp.example.com", below)
    deeper.serve("_domainkey.example.com", f"post 60 IN TXT {strings(RECORDS['dkim'].dns_value)}\n")
    text = zone(RECORDS, {kind: [] for kind in RECORDS if "_tcp" in RECORDS[kind].dns_name or kind == "dkim"})
    cuts = "_tcp 60 IN NS ns1._tcp\n_domainkey 60 IN NS ns1._domainkey\n"
    internet.publish(NAME, text + cuts)
    assert not faults(await probe(internet))


async def test_names_compare_without_regard_to_case(internet: Internet) -> None:
    upper = {
        kind: [f"{kind_of} {record.dns_value.upper()}"]
        for kind, record in RECORDS.items()
        for kind_of in [record.dns_type.value.split("_")[0].upper()]
        if kind_of != "TXT"
    }
    internet.publish(NAME, zone(RECORDS, upper))
    assert not faults(await probe(internet))


async def test_a_name_in_another_script_is_asked_for_as_a_labels(internet: Internet) -> None:
    domain = a_domain("xn--bcher-kva.example")
    records = records_of(domain)
    await internet.delegate(domain.name, "127.0.0.7")
    internet.publish(domain.name, zone(records))
    findings = await DnsProber(config(internet)).probe(domain, records)
    assert {finding.status for finding in findings.values()} == {VALID}


async def test_a_domain_name_without_room_for_a_records_labels(internet: Internet) -> None:
    domain = a_domain(".".join(["x" * 61] * 3 + ["y" * 51, "example"]))
    assert len(domain.name) > 240
    records = records_of(domain)
    await internet.delegate("example", "127.0.0.7")
    internet.publish("example", "")
    findings = await DnsProber(config(internet)).probe(domain, records)
    assert findings["mx"].status is NOT_FOUND
    assert findings["dkim"].status is INVALID
    assert "not one that the DNS can have" in (findings["dkim"].error or "")


async def test_servers_are_asked_over_ipv6(internet: Internet) -> None:
    await internet.delegate(NAME, "::1")
    internet.tell(f"ns1.{NAME}", RdataType.A)
    internet.publish(NAME, zone(RECORDS))
    assert not faults(await probe(internet))
    assert len(internet.servers["::1"].asked) == len(RECORDS)


def test_the_key_is_longer_than_one_string() -> None:
    assert len(DKIM_KEY) > 255
