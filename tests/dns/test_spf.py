"""SPF records: syntax, and whether they authorize our hosts through include and redirect."""

import dns.name
import pytest
from dns.rdatatype import RdataType

from postroomd.dns.fault import Fault
from postroomd.dns.result import LookupResult, LookupStatus
from postroomd.dns.spf import SpfSyntaxError, expand_macros, parse_spf
from postroomd.dns.spf_check import spf_fault
from postroomd.domain.model import RecordStatus
from tests.support.dns_probe import INVALID, UNANSWERED, VALID
from tests.support.dns_records import NAME, record
from tests.support.mail_hosts import MAIL_HOSTS

INCLUDE = f"include:{MAIL_HOSTS.spf_include}"
FAILED = ("fails",)

Zone = dict[tuple[str, RdataType], tuple[str, ...]]


def texts(**records: str) -> Zone:
    """Return TXT records below .test by their first label."""
    return {(f"{name}.test", RdataType.TXT): (text,) for name, text in records.items()}


async def check(*values: str, zone: Zone | None = None) -> Fault | None:
    """Check the SPF record of example.com; names outside `zone` do not exist."""

    async def resolve(name: dns.name.Name, rdtype: RdataType) -> LookupResult:
        text = name.to_text(omit_final_dot=True).lower()
        found = (zone or {}).get((text, rdtype), ())
        status = LookupStatus.FAILED if found == FAILED else LookupStatus.FOUND if found else LookupStatus.NXDOMAIN
        return LookupResult(status=status, chain=(text,), values=found, error="ns1 returned SERVFAIL")

    return await spf_fault(resolve, NAME, record("spf").dns_value, values)


async def problem(*values: str, zone: Zone | None = None, status: RecordStatus = INVALID) -> str:
    fault = await check(*values, zone=zone)
    assert fault is not None
    assert fault.status is status
    return fault.problem


@pytest.mark.parametrize(
    "value",
    [
        f"v=spf1 {INCLUDE} ~all",
        f"v=spf1 {INCLUDE}",
        f"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 a:a.test/24//64 mx:mx.test {INCLUDE} -all",
        f"V=SPF1   +{INCLUDE.upper()}.  exp=%{{d}}.test unknown=%{{i}} ",
        f"v=spf1 ?{INCLUDE} ptr ptr:x.test -all",
        f"v=spf1 include:nested.test {INCLUDE} -all",
        "v=spf1 include:nested.test -all",
        "v=spf1 include:outer.test ~all",
        "v=spf1 redirect=nested.test",
        f"v=spf1 redirect={MAIL_HOSTS.spf_include}",
        f"v=spf1 a:a.test include:x.test redirect={MAIL_HOSTS.spf_include}.",
        "v=spf1 include:redirected.test -all",
        "v=spf1 a:a.test redirect=outer.test",
        "v=spf1 include:x.test include:softfail.test include:nested.test -all redirect=missing.test",
    ],
)
async def test_our_include_is_found_at_any_depth(value: str) -> None:
    zone = texts(
        x="v=spf1 ip4:192.0.2.1 -all",
        nested=f"v=spf1 {INCLUDE} -all",
        outer="v=spf1 include:nested.test ?all",
        redirected=f"v=spf1 redirect={MAIL_HOSTS.spf_include}",
        softfail=f"v=spf1 ~{INCLUDE} -all",
    ) | {("a.test", RdataType.A): ("192.0.2.1",), ("mx.test", RdataType.MX): ("10 a.test.",)}
    assert await check("google-site-verification=x", value, zone=zone) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("v=spf1 include:x.test ~all", "does not include ours"),
        (f"v=spf1 {INCLUDE}.evil.test ~all", "refers to _spf.mail.example.evil.test, which has no SPF record"),
        (f"v=spf1 -{INCLUDE} ~all", "qualifier `-` makes the result fail"),
        (f"v=spf1 ~{INCLUDE} ~all", "qualifier `~` makes the result softfail"),
        (f"v=spf1 ~{INCLUDE} redirect={MAIL_HOSTS.spf_include}", "qualifier `~` makes the result softfail"),
        (f"v=spf1 -all redirect={MAIL_HOSTS.spf_include}", "does not include ours"),
        (f"v=spf1 -all {INCLUDE}", "follows `all`"),
        (f"v=spf1 incl:x.test {INCLUDE} ~all", 'invalid term "incl:x.test", a permanent error'),
        (f"v=spf1 {INCLUDE} ip4:192.0.2.256 ~all", 'invalid term "ip4:192.0.2.256"'),
        (f"v=spf1 {INCLUDE} include:broken.test ~all", 'SPF record of broken.test has an invalid term "ip5:x"'),
        (f"v=spf1 {INCLUDE} include:two.test ~all", "refers to two.test, which has 2 SPF records"),
        (f"v=spf1 {INCLUDE} include:text.test ~all", "refers to text.test, which has no SPF record"),
        (f"v=spf1 {INCLUDE} redirect=missing.test", '"redirect=missing.test" of example.com refers to missing.test'),
        (f"v=spf1 {INCLUDE} include:loop.test ~all", '"include:loop.test" of loop.test leads back to loop.test'),
        ("v=spf1 redirect=example.com", "leads back to example.com"),
        ("v=spf1 include:softfail.test -all", "does not include ours"),
        (f"v=spf1 {INCLUDE} mx:many.test -all", 'SPF term "mx:many.test" of example.com has more than 10 MX records'),
    ],
)
async def test_a_record_that_does_not_authorize_our_hosts_is_invalid(value: str, text: str) -> None:
    zone = texts(
        x="v=spf1 ip4:192.0.2.1 -all",
        broken="v=spf1 ip5:x -all",
        text="anything",
        loop="v=spf1 include:loop.test -all",
        softfail=f"v=spf1 ~{INCLUDE} -all",
    ) | {
        ("two.test", RdataType.TXT): ("v=spf1 -all", "v=spf1 ~all"),
        ("many.test", RdataType.MX): tuple(f"10 mx{number}.test." for number in range(11)),
    }
    assert text in await problem(value, zone=zone)


async def test_two_records_are_invalid_in_either_order() -> None:
    values = (f"v=spf1 {INCLUDE} ~all", "v=spf1 -all")
    assert "2 SPF records are published, a permanent error (RFC 7208" in await problem(*values)
    assert await problem(*values) == await problem(*reversed(values))


async def test_other_txt_records_are_not_spf_records() -> None:
    found = await problem("google-site-verification=x", "v=spf10", "v=spf1\tmx", status=RecordStatus.NOT_FOUND)
    assert found == "no TXT record of the name starts with `v=spf1`"


async def test_the_eleventh_lookup_is_named() -> None:
    zone = texts(**{f"i{number}": "v=spf1 ip4:192.0.2.1 -all" for number in range(11)})
    nine = " ".join(f"include:i{number}.test" for number in range(9))
    assert await check(f"v=spf1 {nine} {INCLUDE} -all", zone=zone) is None
    text = await problem(f"v=spf1 {nine} {INCLUDE} include:i9.test -all", zone=zone)
    assert text.startswith('the SPF term "include:i9.test" of example.com needs more than the 10 lookups allowed')


async def test_lookups_in_nested_records_count() -> None:
    zone = texts(
        outer="v=spf1 include:inner.test ptr ptr -all", inner="v=spf1 exists:x.test a:x.test ptr mx:x.test ptr ~all"
    ) | {("x.test", RdataType.A): ("192.0.2.1",), ("x.test", RdataType.MX): ("10 x.test.",)}
    assert await check(f"v=spf1 include:outer.test {INCLUDE} -all", zone=zone) is None
    text = await problem(f"v=spf1 include:outer.test {INCLUDE} a:x.test -all", zone=zone)
    assert '"a:x.test" of example.com needs more than the 10 lookups' in text


async def test_lookups_in_our_own_record_count() -> None:
    zone: Zone = {
        (MAIL_HOSTS.spf_include, RdataType.TXT): ("v=spf1 include:a.mail.example include:b.mail.example -all",)
    }
    assert await check(f"v=spf1 {'ptr ' * 7}{INCLUDE} -all", zone=zone) is None
    text = await problem(f"v=spf1 {'ptr ' * 8}{INCLUDE} -all", zone=zone)
    assert '"include:b.mail.example" of _spf.mail.example needs more than the 10 lookups' in text


async def test_terms_after_all_are_not_looked_up() -> None:
    assert await check(f"v=spf1 {INCLUDE} -all {'a:missing.test ' * 20}include:missing.test") is None


async def test_the_third_void_lookup_is_named() -> None:
    assert await check(f"v=spf1 a:v1.test exists:v2.test {INCLUDE} -all") is None
    text = await problem(f"v=spf1 a:v1.test mx:v2.test exists:v3.test {INCLUDE} -all")
    assert text.startswith('the SPF term "exists:v3.test" exceeds the 2 lookups without records allowed')


@pytest.mark.parametrize(
    "value",
    [
        f"v=spf1 exists:%{{i}}._spf.x.test {INCLUDE} -all",
        "v=spf1 include:%{ir}.%{v}.%{d}.x.test -all",
        "v=spf1 exists:%{l}.x.test ~all",
        "v=spf1 redirect=%{h}.x.test",
    ],
)
async def test_a_macro_that_needs_a_message_is_a_warning(value: str) -> None:
    text = await problem(value, status=VALID)
    assert text.startswith('the macro in SPF term "')
    assert "can't be evaluated without a message" in text
    assert ("not known whether" in text) == (INCLUDE not in value)


async def test_macros_of_the_domain_are_expanded() -> None:
    zone: Zone = {("example.com.x.test", RdataType.TXT): (f"v=spf1 {INCLUDE} -all",)}
    assert await check("v=spf1 include:%{d}.x.test -all", zone=zone) is None
    assert await check("v=spf1 include:%{o}.x.test -all", zone=zone) is None


async def test_a_failed_lookup_is_unanswered_only_without_our_include() -> None:
    zone: Zone = {("x.test", RdataType.TXT): FAILED}
    text = 'the lookup of SPF term "include:x.test" failed: ns1 returned SERVFAIL'
    assert await problem("v=spf1 include:x.test -all", zone=zone, status=UNANSWERED) == text
    assert await problem(f"v=spf1 {INCLUDE} include:x.test -all", zone=zone, status=VALID) == text


@pytest.mark.parametrize(
    "term",
    [
        "all:x.test", "all/24", "include", "include:", "include:localhost", "include:x..test", "include:x.1",
        "include:%{x}.test", "include:%", "include:x.test/24", "exists", "a:", "a/33", "a//129", "a/024", "mx:x",
        "ip4", "ip4:", "ip4:1.2.3", "ip4:1.2.3.4/33", "ip4:1.2.3.4/255.255.255.0", "ip6:1.2.3.4", "ip6:::1/129",
        "redirect=", "redirect=x", "exp=%{d}%", "unknown=%x", "ip5:x", "=x", "+", "include:x\xe9.test", "a:x\t.test",
        "redirect=a.test redirect=b.test", f"include:{'x' * 64}.test", "include:%{d0}",
    ],
)  # fmt: skip
def test_an_invalid_term_is_a_syntax_error(term: str) -> None:
    with pytest.raises(SpfSyntaxError) as caught:
        parse_spf(f"v=spf1 mx {term} -all")
    assert str(caught.value) in term


@pytest.mark.parametrize(
    "term",
    [
        "all", "-all", "A", "a/0", "a//0", "a/32//128", "a:x.test", "mx:_x.test/24", "ptr", "ptr:x.test.",
        "ip4:1.2.3.4/0", "ip6:::/0", "ip6:2001:db8::1", "include:%{d}", "include:x.%{d}", "exists:%{ir}.%{l1r-}.x.test",
        "include:%%%_%-.x.test", "redirect=%{d2}.x.test", "moo.cow-far_out=man:dog/cat", "include=x.test",
    ],
)  # fmt: skip
def test_a_valid_term_is_parsed(term: str) -> None:
    assert [parsed.text for parsed in parse_spf(f"v=spf1 {term}  ")] == [term]


async def test_a_record_with_thousands_of_terms_is_not_evaluated() -> None:
    long_record = "v=spf1 " + "a " * 5_000 + INCLUDE
    assert f"the SPF record of example.com has {len(long_record)} octets (maximum 8192)" in await problem(long_record)
    nested = await problem("v=spf1 include:x.test ~all", zone=texts(x=long_record))
    assert f"the SPF record of x.test has {len(long_record)} octets (maximum 8192)" in nested


@pytest.mark.parametrize(
    ("macro", "expanded"),
    [
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d2r}", "example.email"),
        ("%{dr}.x", "com.example.email.x"),
        ("%{o}", "sender.test"),
        ("%%a%_b%-c", "%a b%20c"),
        ("%{i}.x", None),
        ("x.%{S}", None),
        ("%{d" + "9" * 5_000 + "}", "email.example.com"),
        ("%{d}." * 1_000 + "test", ".".join(["example.com", *["email.example.com"] * 13, "test"])),
    ],
)
def test_macros_are_expanded_as_in_rfc_7208(macro: str, expanded: str | None) -> None:
    assert expand_macros(macro, domain="email.example.com", sender_domain="sender.test") == expanded
