"""Names that cannot be registered, and the operator's exceptions."""

import pytest

from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.reserved_names import ReservedNames
from postroomd.domain.validation import check_domain_name, checking

NONE = ReservedNames()
MAIL = ReservedNames(frozenset({"imap.mail.example", "mx1.eu.isp.org", "webmail.co.uk", "_spf.mail.example"}))


@pytest.mark.parametrize(
    ("name", "special"),
    [
        ("printer.local", "local"),
        ("a.b.onion", "onion"),
        ("corp.internal", "internal"),
        ("shop.invalid", "invalid"),
        ("dev.localhost", "localhost"),
        ("2.0.192.in-addr.arpa", "arpa"),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "arpa"),
        ("kitchen.home.arpa", "arpa"),
        ("name.alt", "alt"),
    ],
)
def test_a_special_use_name_is_reserved(name: str, special: str) -> None:
    assert f"`{special}`" in (NONE.reason(name) or "")


@pytest.mark.parametrize(
    "name",
    [
        "shop.test",
        "shop.example",
        "example.com",
        "www.example.org",
        "local.example",
        "mylocal.org",
        "internal.co",
        "a.al",
    ],
)
def test_other_names_are_not_reserved(name: str) -> None:
    assert NONE.reason(name) is None
    assert MAIL.reason(name) is None


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("imap.mail.example", True),
        ("deep.below.imap.mail.example", True),
        ("mail.example", True),
        ("shop.mail.example", True),
        ("shop.example", False),
        ("xmail.example", False),
        ("eu.isp.org", True),
        ("shop.eu.isp.org", True),
        ("isp.org", False),
        ("webmail.co.uk", True),
        ("shop.webmail.co.uk", True),
        ("shop.co.uk", False),
    ],
)
def test_the_domains_of_the_mail_hosts_are_reserved(name: str, reserved: bool) -> None:
    assert (MAIL.reason(name) is not None) == reserved


def test_the_operator_can_except_names_with_those_below_them() -> None:
    reserved = ReservedNames(MAIL.mail_hosts, frozenset({"internal", "shop.mail.example"}))
    assert reserved.reason("corp.internal") is None
    assert reserved.reason("shop.mail.example") is None
    assert reserved.reason("www.shop.mail.example") is None
    assert reserved.reason("mail.example") is not None
    assert reserved.reason("printer.local") is not None


def test_the_violation_names_the_argument_and_the_way_out() -> None:
    with pytest.raises(InvalidArguments) as refused, checking() as check:
        check_domain_name(check, "Corp.INTERNAL.", NONE)
    assert refused.value.violations == (
        Violation(
            "name",
            Reason.CONSTRAINT,
            "must not be below `internal`, which is reserved for special use (RFC 6761): use another name",
        ),
    )
