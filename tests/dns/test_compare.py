"""What an answer means for each kind of record."""

import pytest

from postroomd.dns.answers import Answer, Outcome
from postroomd.dns.compare import judge
from postroomd.domain.model import RecordStatus
from tests.support.dns_records import DKIM_KEY, HOSTS, TOKEN, record

VALID, INVALID, NOT_FOUND = RecordStatus.VALID, RecordStatus.INVALID, RecordStatus.NOT_FOUND
INCLUDE = f"include:{HOSTS.spf_include}"
SHORT_KEY = DKIM_KEY[:200]


def found(*values: str, chain: tuple[str, ...] = ("name.example.com",)) -> Answer:
    return Answer(outcome=Outcome.FOUND, chain=chain, values=values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("domain_validation", [f"postroom-validation={TOKEN}"]),
        ("domain_validation", ["other", "postroom-validation=else", f"postroom-validation={TOKEN}"]),
        ("spf", [f"v=spf1 {INCLUDE} ~all"]),
        (
            "spf",
            ["google-site-verification=x", f"v=spf1 ip4:192.0.2.0/24 a mx:x.test {INCLUDE} include:_spf.x.test -all"],
        ),
        ("spf", [f"V=SPF1   +{INCLUDE.upper()}.  exp=%{{d}}.test redirect=x.test"]),
        ("spf", [f"v=spf1 ?{INCLUDE}"]),
        ("dkim", [f"v=DKIM1; k=rsa; p={DKIM_KEY}"]),
        ("dkim", [f"p={DKIM_KEY}"]),
        ("dkim", ["something else", f" k = RSA ;t=s; p = {DKIM_KEY[:90]} \t{DKIM_KEY[90:]} ;"]),
        ("dmarc", ["v=DMARC1; p=none"]),
        ("dmarc", ["v=DMARC1;p=REJECT;sp=quarantine; pct=50; adkim=s; aspf=r; ri=86400; rua=mailto:a@x.test; fo=1;"]),
        ("dmarc", ["v=spf1 -all", "v = DMARC1 ; P=quarantine"]),
        ("mx", ["10 mx.host.test."]),
        ("mx", ["0 MX.Host.Test."]),
        ("mx", ["30 mx.host.test.", "40 backup.x.test."]),
        ("mx", ["30 mx.host.test.", "40 mx.host.test."]),
        ("imap", ["0 1 993 imap.host.test."]),
        ("imap", ["20 0 993 IMAP.host.test."]),
        ("imap", ["5 0 993 imap.host.test.", "10 0 993 other.test."]),
        ("autoconfig", ["Autoconfig.host.test."]),
        ("autoconfig", ["one.test.", "two.test.", "autoconfig.host.test."]),
    ],
)
def test_a_record_is_valid(kind: str, values: list[str]) -> None:
    finding = judge(record(kind), found(*values))
    assert (finding.status, finding.error) == (VALID, None)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("domain_validation", ["postroom-validation=feed"], "the token of another registration of this name"),
        ("domain_validation", [f"postroom-validation={TOKEN.upper()}"], "the token of another registration"),
        ("domain_validation", ["v=spf1 -all"], "no TXT record of the name is a validation token"),
        ("domain_validation", [TOKEN], "no TXT record of the name is a validation token"),
        ("spf", [f"v=spf1 {INCLUDE} ~all", "v=spf1 -all"], "2 SPF records are published, a permanent error (RFC 7208"),
        ("spf", ["v=spf1 include:_spf.else.test ~all"], "does not include ours"),
        ("spf", [f"v=spf1 {INCLUDE}.evil.test ~all"], "does not include ours"),
        ("spf", [f"v=spf1 -{INCLUDE} ~all"], "qualifier `-` says that mail from there is to be refused"),
        ("spf", [f"v=spf1 ~{INCLUDE} ~all"], "qualifier `~` says that mail from there is doubtful"),
        ("spf", [f"v=spf1 -all {INCLUDE}"], "stands after `all`"),
        ("spf", [f"v=spf1 incl:x.test {INCLUDE} ~all"], "none of SPF's, a permanent error"),
        ("dkim", [f"v=DKIM1; k=rsa; p={'A' * 392}"], "another DKIM key is published"),
        ("dkim", [f"v=DKIM1; k=ed25519; p={DKIM_KEY}"], "of another type"),
        ("dkim", [f"v=DKIM2; p={DKIM_KEY}"], "of another version"),
        ("dkim", [f"v=DKIM1; p={DKIM_KEY}; p={DKIM_KEY}"], "a tag twice"),
        ("dkim", ["v=DKIM1; k=rsa; p="], "withdrawn"),
        ("dkim", ["hello"], "holds no DKIM key"),
        ("dkim", [f"v=DKIM1; p={SHORT_KEY}"], f"cut off: 200 of its {len(DKIM_KEY)} characters"),
        ("dmarc", ["p=none; v=DMARC1"], "begins with `v=DMARC1`"),
        ("dmarc", ["v=DMARC10; p=none"], "begins with `v=DMARC1`"),
        ("dmarc", ["v=DMARC1; rua=mailto:a@x.test"], "sets no policy"),
        ("dmarc", ["v=DMARC1; p=monitor"], "tag p is malformed"),
        ("dmarc", ["v=DMARC1; p=none; pct=200"], "tag pct is malformed"),
        ("dmarc", ["v=DMARC1; p=none; P=reject"], "a tag twice"),
        ("dmarc", ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "receivers ignore them all"),
        ("mx", ["10 mx.else.test."], "no record names our host"),
        ("mx", ["10 mx.host.test.", "5 mx.else.test."], "another host is preferred to ours"),
        ("mx", ["10 mx.host.test.", "10 mx.else.test."], "preferred as much as ours"),
        ("mx", ["0 ."], "there is no such service"),
        ("imap", ["0 1 143 imap.host.test."], "no record points at the expected host and port"),
        ("imap", ["0 1 993 imap.else.test."], "no record points at the expected host and port"),
        ("imap", ["10 1 993 imap.host.test.", "0 1 993 imap.else.test."], "another host is preferred to ours"),
        ("imap", ["0 0 0 ."], "there is no such service"),
        ("autoconfig", ["else.test."], "points elsewhere"),
        ("autoconfig", ["xautoconfig.host.test."], "points elsewhere"),
    ],
)
def test_a_record_is_invalid_and_the_error_says_what_was_found_and_expected(
    kind: str, values: list[str], says: str
) -> None:
    finding = judge(record(kind), found(*values))
    assert finding.status is INVALID
    assert finding.error is not None
    assert says in finding.error
    assert f'found "{values[0][:60]}' in finding.error
    assert f'expected "{record(kind).dns_value[:60]}' in finding.error
    assert len(finding.error) <= 500


def test_texts_of_other_kinds_are_no_spf_record() -> None:
    finding = judge(record("spf"), found("google-site-verification=x", "v=spf10", "v=spf1\tmx"))
    assert finding.status is NOT_FOUND
    assert finding.error is not None
    assert "no TXT record of the name begins with `v=spf1`" in finding.error


@pytest.mark.parametrize(
    ("outcome", "status", "says"),
    [
        (Outcome.NO_NAME, NOT_FOUND, "there is no name b.test in the DNS"),
        (Outcome.NO_DATA, NOT_FOUND, "b.test has no TXT record"),
        (Outcome.LOOP, INVALID, "the CNAME records of a.test lead round in a loop"),
        (Outcome.TOO_LONG, INVALID, "the CNAME records of a.test lead on for too long"),
        (Outcome.FAILED, INVALID, "the look-up of TXT a.test failed: ns1 answers SERVFAIL"),
    ],
)
def test_what_was_not_found_is_told_from_what_could_not_be_looked_up(
    outcome: Outcome, status: RecordStatus, says: str
) -> None:
    answer = Answer(outcome=outcome, chain=("a.test", "b.test"), reason="ns1 answers SERVFAIL")
    finding = judge(record("dmarc"), answer)
    assert finding.status is status
    assert finding.error is not None
    assert says in finding.error
    if outcome is not Outcome.FAILED:
        assert "followed a.test -> b.test" in finding.error


def test_hostile_text_is_made_printable_and_bounded() -> None:
    hostile = '\x1b[2J\r\nINJECTED\x00\x9b\xff"\\' + "z" * 60_000
    finding = judge(record("domain_validation"), found(hostile, *[f"\x07{number}" * 50 for number in range(600)]))
    assert finding.error is not None
    assert finding.error.isprintable()
    assert finding.error.removesuffix("…").replace("…", "").isascii()
    assert len(finding.error) <= 500
    assert r'"\027[2J\013\010INJECTED\000\155\255\"\\zz' in finding.error
    assert "and 598 more" in finding.error


def test_long_names_of_a_chain_are_bounded() -> None:
    name = ".".join(["x" * 60] * 4)
    answer = Answer(outcome=Outcome.LOOP, chain=tuple(f"{number}.{name}" for number in range(9)))
    error = judge(record("dmarc"), answer).error
    assert error is not None
    assert len(error) <= 500
    assert 'expected "v=DMARC1; p=none"' in error
