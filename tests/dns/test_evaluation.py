"""Evaluation of lookup results for each kind of record."""

from itertools import permutations

import pytest

from postroomd.dns.evaluation import evaluate
from postroomd.dns.formatting import MAX_ERROR_LENGTH, quote
from postroomd.dns.result import LookupResult, LookupStatus
from postroomd.domain.model import RecordStatus
from tests.support.dns_records import DKIM_KEY, TOKEN, record

VALID, INVALID, NOT_FOUND = RecordStatus.VALID, RecordStatus.INVALID, RecordStatus.NOT_FOUND
SHORT_KEY = DKIM_KEY[:200]


def found(*values: str, chain: tuple[str, ...] = ("name.example.com",)) -> LookupResult:
    return LookupResult(status=LookupStatus.FOUND, chain=chain, values=values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("domain_validation", [f"postroom-validation={TOKEN}"]),
        ("domain_validation", ["other", "postroom-validation=else", f"postroom-validation={TOKEN}"]),
        ("dkim", [f"v=DKIM1; k=rsa; p={DKIM_KEY}"]),
        ("dkim", [f"p={DKIM_KEY}"]),
        ("dkim", [f" k = RSA ;t=s; p = {DKIM_KEY[:90]} \t{DKIM_KEY[90:]} ;"]),
        ("dkim", [f"v=DKIM1; h=sha1 : sha256; s= * ; t=s; n=a 'note' \\; p={DKIM_KEY}"]),
        ("dkim", [f"h=sha256; s=other:email; g=*; p={DKIM_KEY}"]),
        ("dmarc", ["v=DMARC1; p=none"]),
        ("dmarc", ["v=DMARC1;p=REJECT;sp=quarantine; pct=50; adkim=s; aspf=r; ri=86400; rua=mailto:a@x.test; fo=1;"]),
        ("dmarc", ["v=spf1 -all", "v = DMARC1 ; P=quarantine"]),
        ("mx", ["10 mx.mail.example."]),
        ("mx", ["0 MX.Mail.Example."]),
        ("mx", ["30 mx.mail.example.", "40 backup.x.test."]),
        ("mx", ["30 mx.mail.example.", "40 mx.mail.example."]),
        ("imap", ["0 1 993 imap.mail.example."]),
        ("imap", ["20 0 993 IMAP.mail.example."]),
        ("imap", ["5 0 993 imap.mail.example.", "10 0 993 other.test."]),
        ("autoconfig", ["Autoconfig.mail.example."]),
        ("autoconfig", ["one.test.", "two.test.", "autoconfig.mail.example."]),
    ],
)
def test_a_record_is_valid(kind: str, values: list[str]) -> None:
    finding = evaluate(record(kind), found(*values))
    assert (finding.status, finding.error) == (VALID, None)


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("domain_validation", ["postroom-validation=feed"], "belongs to another registration of this name"),
        ("domain_validation", [f"postroom-validation={TOKEN.upper()}"], "in another letter case"),
        ("domain_validation", [f'"postroom-validation={TOKEN}"'], "published with quotes around it: remove them"),
        ("domain_validation", [f"\u201cpostroom-validation={TOKEN}\u201d".encode().decode("latin-1")], "with quotes"),
        ("domain_validation", [f" postroom-validation={TOKEN}\t"], "with surrounding spaces: remove them"),
        ("domain_validation", [f"postroom-validation= {TOKEN}"], "with white space inside: remove it"),
        ("domain_validation", [TOKEN], "without the prefix `postroom-validation=`: add it"),
        ("dkim", [f"v=DKIM1; k=rsa; p={'A' * 392}"], "another DKIM key is published"),
        ("dkim", [f"v=DKIM1; k=ed25519; p={DKIM_KEY}"], "has another type (k)"),
        ("dkim", [f"v=DKIM2; p={DKIM_KEY}"], "has another version"),
        ("dkim", [f"v=DKIM1; p={DKIM_KEY}; p={DKIM_KEY}"], "duplicate tag"),
        ("dkim", ["v=DKIM1; k=rsa; p="], "revoked"),
        ("dkim", ["v=DKIM1; k=rsa"], "no key (p)"),
        ("dkim", [f"k=rsa; v=DKIM1; p={DKIM_KEY}"], "v tag must come first"),
        ("dkim", [f"v=DKIM1; h=sha1; p={DKIM_KEY}"], "h tag does not allow sha256"),
        ("dkim", [f"v=DKIM1; s=tlsrpt; p={DKIM_KEY}"], "s tag allows neither `email` nor `*`"),
        ("dkim", [f"v=DKIM1\\; k=rsa\\; p={DKIM_KEY}"], "stray backslashes: remove them"),
        ("dkim", [f'"v=DKIM1; p={DKIM_KEY[:200]}" "{DKIM_KEY[200:]}"'], "stray quotes: remove them"),
        ("dkim", [f"v=DKIM1; k:rsa; p={DKIM_KEY}"], 'syntax error at "k:rsa"'),
        ("dkim", [f"v=DKIM1; p={SHORT_KEY}"], f"truncated: 200 of its {len(DKIM_KEY)} characters"),
        ("dmarc", ["v=DMARC1; none"], 'syntax error at "none"'),
        ("dmarc", ["v=DMARC1; p=none; rua=a@x.test"], "tag rua is malformed"),
        ("dmarc", ["v=DMARC1; rua=mailto:a@x.test"], "has no policy"),
        ("dmarc", ["v=DMARC1; p=monitor"], "tag p is malformed"),
        ("dmarc", ["v=DMARC1; p=none; pct=200"], "tag pct is malformed"),
        ("dmarc", ["v=DMARC1; p=none; P=reject"], "duplicate tag"),
        ("dmarc", ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "receivers ignore all of them"),
        ("mx", ["10 mx.else.test."], "no record has the expected host"),
        ("mx", ["10 mx.mail.example.", "5 mx.else.test."], "another host is preferred"),
        ("mx", ["10 mx.mail.example.", "10 mx.else.test."], "another host has the same preference"),
        ("mx", ["0 ."], "the service is not available"),
        ("imap", ["0 1 143 imap.mail.example."], "no record has the expected host and port"),
        ("imap", ["0 1 993 imap.else.test."], "no record has the expected host and port"),
        ("imap", ["10 1 993 imap.mail.example.", "0 1 993 imap.else.test."], "another host is preferred"),
        ("imap", ["0 0 0 ."], "the service is not available"),
        ("autoconfig", ["else.test."], "has another target"),
        ("autoconfig", ["xautoconfig.mail.example."], "has another target"),
    ],
)
def test_an_invalid_record_reports_the_found_and_expected_values(kind: str, values: list[str], text: str) -> None:
    finding = evaluate(record(kind), found(*values))
    assert finding.status is INVALID
    assert finding.error is not None
    assert text in finding.error
    assert "; found " in finding.error
    assert any(quote(value) in finding.error for value in values)
    assert f'; expected "{record(kind).dns_value[:60]}' in finding.error
    assert len(finding.error) <= MAX_ERROR_LENGTH


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("domain_validation", ["v=spf1 -all", "anything"], "no TXT record of the name is a validation token"),
        ("dkim", ["hello"], "no TXT record under the selector is a DKIM key"),
        ("dmarc", ["p=none; v=DMARC1"], "no TXT record of the name starts with `v=DMARC1`"),
        ("dmarc", ["v=DMARC10; p=none"], "no TXT record of the name starts with `v=DMARC1`"),
    ],
)
def test_unrelated_txt_records_leave_the_record_absent(kind: str, values: list[str], text: str) -> None:
    finding = evaluate(record(kind), found(*values))
    assert finding.status is NOT_FOUND
    assert finding.error is not None
    assert text in finding.error


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([f"v=DKIM1; t=y:s; p={DKIM_KEY}"], "test mode"),
        ([f"p={DKIM_KEY}", "something else"], 'may be read as the key; found "something else"'),
    ],
)
def test_a_dkim_warning_leaves_the_record_valid(values: list[str], text: str) -> None:
    finding = evaluate(record("dkim"), found(*values))
    assert finding.status is VALID
    assert finding.error is not None
    assert text in finding.error
    assert "expected" not in finding.error


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("domain_validation", ["x", "postroom-validation=1", "postroom-validation=2", f" postroom-validation={TOKEN}"]),
        ("dkim", [f"p={DKIM_KEY}", "p=else", "v=DKIM1; p=third"]),
        ("dkim", [f"p={SHORT_KEY}", "a", "b"]),
        ("dmarc", ["v=DMARC1; p=none", "v=DMARC1; p=reject", "x"]),
        ("mx", ["10 mx.mail.example.", "5 a.test.", "5 b.test."]),
        ("imap", ["0 1 143 imap.mail.example.", "10 1 993 else.test.", "0 0 993 else.test."]),
    ],
)
def test_the_finding_does_not_depend_on_record_order(kind: str, values: list[str]) -> None:
    assert len({evaluate(record(kind), found(*order)) for order in permutations(values)}) == 1


@pytest.mark.parametrize("kind", ["dkim", "dmarc"])
def test_a_long_expected_txt_value_is_given_as_strings(kind: str) -> None:
    value = record(kind).dns_value
    error = evaluate(record(kind), LookupResult(status=LookupStatus.NXDOMAIN, chain=("a.test",))).error
    assert error is not None
    if kind == "dmarc":
        assert error.endswith(f'expected "{value}"')
    else:
        assert f'expected "{value[:255]}" "{value[255:]}" (one TXT record of several strings)' in error


@pytest.mark.parametrize(
    ("lookup_status", "status", "text"),
    [
        (LookupStatus.NXDOMAIN, NOT_FOUND, "the name b.test does not exist"),
        (LookupStatus.NO_DATA, NOT_FOUND, "b.test has no TXT record"),
        (LookupStatus.CNAME_LOOP, INVALID, "the CNAME records of a.test form a loop"),
        (LookupStatus.CNAME_CHAIN_TOO_LONG, INVALID, "the CNAME chain of a.test is too long"),
        (LookupStatus.FAILED, RecordStatus.UNKNOWN_STATUS, "_dmarc.example.com failed: ns1 returned SERVFAIL"),
    ],
)
def test_a_result_without_values_explains_the_cause(
    lookup_status: LookupStatus, status: RecordStatus, text: str
) -> None:
    result = LookupResult(status=lookup_status, chain=("a.test", "b.test"), error="ns1 returned SERVFAIL")
    finding = evaluate(record("dmarc"), result)
    assert finding.status is status
    assert finding.error is not None
    assert text in finding.error
    if lookup_status is not LookupStatus.FAILED:
        assert "followed a.test -> b.test" in finding.error


def test_hostile_text_becomes_printable_and_bounded() -> None:
    hostile = '!\x1b[2J\r\nINJECTED\x00\x9b\xff"\\' + "z" * 60_000
    finding = evaluate(record("domain_validation"), found(hostile, *[f"~\x07{number}" * 50 for number in range(600)]))
    assert finding.error is not None
    assert finding.error.isprintable()
    assert finding.error.removesuffix("…").replace("…", "").isascii()
    assert len(finding.error) <= MAX_ERROR_LENGTH
    assert r'"!\027[2J\013\010INJECTED\000\155\255\"\\zz' in finding.error
    assert "and 598 more" in finding.error


def test_long_names_in_a_chain_are_truncated() -> None:
    name = ".".join(["x" * 60] * 4)
    result = LookupResult(status=LookupStatus.CNAME_LOOP, chain=tuple(f"{number}.{name}" for number in range(9)))
    error = evaluate(record("dmarc"), result).error
    assert error is not None
    assert len(error) <= MAX_ERROR_LENGTH
    assert 'expected "v=DMARC1; p=none"' in error
