"""Validation of requests: canonical forms, all violations at once, and no argument's value in a message."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.domain.addresses import Address
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.model import SubscriptionPeriod
from postroomd.domain.reserved_names import ReservedNames
from postroomd.domain.validation import (
    MAX_PAGE,
    Checker,
    MailboxParameters,
    check_addresses,
    check_batch,
    check_domain_name,
    check_id,
    check_local_part,
    check_new_period,
    check_password_differs,
    checking,
)

REQUIRED, FORMAT, CONSTRAINT = Reason.REQUIRED, Reason.FORMAT, Reason.CONSTRAINT

ID = "123e4567-e89b-42d3-a456-426614174000"
PASSWORD = "correct horse battery"
NOTHING_RESERVED = ReservedNames()


def violations(check: Checker) -> list[tuple[str, Reason]]:
    return [(violation.field, violation.reason) for violation in check.violations]


# --- Violations -------------------------------------------------------------------------------------------------------


def test_all_violations_of_a_request_are_raised_together() -> None:
    def request() -> None:
        with checking() as check:
            check.uuid("domain_id", "")
            check.uuid("project_id", "no uuid")
            check.text("description", "x" * 256, 255)
            check.page(-1, 1_001, 1_000)

    with pytest.raises(InvalidArguments) as caught:
        request()
    assert [(violation.field, violation.reason) for violation in caught.value.violations] == [
        ("domain_id", REQUIRED),
        ("project_id", FORMAT),
        ("description", CONSTRAINT),
        ("page", CONSTRAINT),
        ("page_size", CONSTRAINT),
    ]
    assert str(caught.value) == "invalid argument(s): domain_id, project_id, description, page, page_size"


def test_a_request_without_a_violation_raises_nothing() -> None:
    with checking() as check:
        check.uuid("domain_id", ID)
    assert check.violations == []


def test_violations_do_not_hide_an_exception_of_the_block() -> None:
    def request() -> None:
        with checking() as check:
            check.refuse("name", FORMAT, "no")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        request()


# --- Ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [ID, ID.upper(), "00000000-0000-0000-0000-000000000000"])
def test_an_id_is_a_uuid_in_lower_case(sent: str) -> None:
    check = Checker()
    assert check.uuid("id", sent) == sent.lower()
    assert check.optional_uuid("id", sent) == sent.lower()
    assert check_id("id", sent) == sent.lower()
    assert check.violations == []


@pytest.mark.parametrize(
    "sent",
    [
        "x",
        ID[:-1],
        ID + "0",
        ID.replace("-", ""),
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        f" {ID}",
        f"{ID}\n",
        ID.replace("1", "g"),
        ID.replace("1", "\N{FULLWIDTH DIGIT ONE}"),
        "\x00",
        "'; DROP TABLE mailboxes; --",
        "a" * 100_000,
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_anything_but_a_uuid_is_refused_as_an_id(sent: str) -> None:
    for method in (Checker.uuid, Checker.optional_uuid):
        check = Checker()
        method(check, "mailbox_id", sent)
        assert violations(check) == [("mailbox_id", FORMAT)]
    with pytest.raises(InvalidArguments) as caught:
        check_id("mailbox_id", sent)
    assert caught.value.violations[0].field == "mailbox_id"


def test_an_absent_id_is_refused_only_where_it_is_required() -> None:
    check = Checker()
    assert check.optional_uuid("project_id", "") is None
    assert check.uuid("domain_id", "") == ""
    assert violations(check) == [("domain_id", REQUIRED)]
    with pytest.raises(InvalidArguments) as caught:
        check_id("alias_id", "")
    assert [(violation.field, violation.reason) for violation in caught.value.violations] == [("alias_id", REQUIRED)]


# --- Names and texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected", "reasons"),
    [
        ("Example.COM.", "example.com", []),
        ("bücher.example", "xn--bcher-kva.example", []),
        ("", "", [("name", REQUIRED)]),
        ("localhost", "", [("name", FORMAT)]),
        ("co.uk", "", [("name", FORMAT)]),
        ("192.0.2.1", "", [("name", FORMAT)]),
        ("under_score.com", "", [("name", FORMAT)]),
    ],
)
def test_a_domain_name_is_canonical_or_refused(sent: str, expected: str, reasons: list[tuple[str, Reason]]) -> None:
    check = Checker()
    assert check_domain_name(check, sent, NOTHING_RESERVED) == expected
    assert violations(check) == reasons


@pytest.mark.parametrize(
    ("sent", "expected", "reasons"),
    [
        ("Ada", "ada", []),
        ("", "", [("local_part", REQUIRED)]),
        ("ada+lists", "", [("local_part", FORMAT)]),
        ("zoë", "", [("local_part", FORMAT)]),
        ("a" * 65, "", [("local_part", FORMAT)]),
    ],
)
def test_a_local_part_is_canonical_or_refused(sent: str, expected: str, reasons: list[tuple[str, Reason]]) -> None:
    check = Checker()
    assert check_local_part(check, "local_part", sent) == expected
    assert violations(check) == reasons


@pytest.mark.parametrize(
    ("sent", "reasons"),
    [
        ("", []),
        ("Sales, and what's left: 日本 🎉", []),
        ("x" * 255, []),
        ("é" * 255, []),  # characters, not octets
        ("x" * 256, [CONSTRAINT]),
        ("two\nlines", [FORMAT]),
        ("\x00", [FORMAT]),
        ("\x7f", [FORMAT]),
        ("\x85", [FORMAT]),
        ("\t" * 256, [CONSTRAINT, FORMAT]),
    ],
)
def test_a_text_has_a_maximum_length_and_no_control_characters(sent: str, reasons: list[Reason]) -> None:
    check = Checker()
    assert check.text("description", sent, 255) == sent
    assert violations(check) == [("description", reason) for reason in reasons]


# --- Passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "reasons"),
    [
        ("xy" * 6, []),
        ("xy" * 64, []),
        ("пароль из слов", []),
        ("🎉🎊" * 6, []),
        ("", [CONSTRAINT]),
        ("x" * 11, [CONSTRAINT]),
        ("x" * 129, [CONSTRAINT]),
        ("x" * 1_000_000, [CONSTRAINT]),
        ("with a\ttab in it", [FORMAT]),
        ("with a NUL\x00 in it", [FORMAT]),
        ("ends in a line\n", [FORMAT]),
        ("\x7f", [CONSTRAINT, FORMAT]),
        ("x" * 12, [CONSTRAINT]),
        ("Password1234", [CONSTRAINT]),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_password_has_a_length_range_and_no_control_characters(sent: str, reasons: list[Reason]) -> None:
    check = Checker()
    check.password("new_password", sent)
    assert violations(check) == [("new_password", reason) for reason in reasons]


@pytest.mark.parametrize(
    ("password", "refused"),
    [
        ("ada.lovelace", True),
        ("Ada.Lovelace", True),
        ("ada.lovelace@example.com", True),
        ("ADA.LOVELACE@EXAMPLE.COM", True),
        ("ada.lovelace@example.org", False),
        ("ada.lovelace1", False),
        ("example.com.example.com", False),
    ],
)
def test_a_password_differs_from_the_address_and_its_local_part(password: str, refused: bool) -> None:
    check = Checker()
    check_password_differs(check, "new_password", password, Address("ada.lovelace", "example.com"))
    assert violations(check) == ([("new_password", CONSTRAINT)] if refused else [])


# --- Pages and periods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "page_size", "max_page_size", "expected"),
    [
        (0, 0, 1_000, (1, 50)),
        (1, 1, 1_000, (1, 1)),
        (7, 1_000, 1_000, (7, 1_000)),
        (0, 100, 100, (1, 100)),
        (MAX_PAGE, 0, 100, (MAX_PAGE, 50)),
    ],
)
def test_a_page_has_defaults(page: int, page_size: int, max_page_size: int, expected: tuple[int, int]) -> None:
    check = Checker()
    assert check.page(page, page_size, max_page_size) == expected
    assert check.violations == []


@pytest.mark.parametrize(
    ("page", "page_size", "fields"),
    [
        (-1, 0, ["page"]),
        (MAX_PAGE + 1, 0, ["page"]),
        (0, -1, ["page_size"]),
        (0, 101, ["page_size"]),
        (-(2**63), 2**63, ["page", "page_size"]),
    ],
)
def test_a_page_out_of_range_is_refused(page: int, page_size: int, fields: list[str]) -> None:
    check = Checker()
    check.page(page, page_size, 100)
    assert violations(check) == [(field, CONSTRAINT) for field in fields]


@pytest.mark.parametrize(
    ("sent", "expected", "reasons"),
    [
        (None, SubscriptionPeriod.MONTHLY, []),
        (SubscriptionPeriod.MONTHLY, SubscriptionPeriod.MONTHLY, []),
        (SubscriptionPeriod.YEARLY, SubscriptionPeriod.YEARLY, []),
        (SubscriptionPeriod.CANCELED, SubscriptionPeriod.CANCELED, [("subscription_period", CONSTRAINT)]),
    ],
)
def test_a_new_mailbox_is_monthly_by_default_and_never_canceled(
    sent: SubscriptionPeriod | None, expected: SubscriptionPeriod, reasons: list[tuple[str, Reason]]
) -> None:
    check = Checker()
    assert check_new_period(check, sent) is expected
    assert violations(check) == reasons


# --- Batches ----------------------------------------------------------------------------------------------------------


sent = MailboxParameters


def test_a_batch_is_returned_in_order_and_canonical() -> None:
    check = Checker()
    assert check_batch(check, [sent("Grace", PASSWORD, "Grace H."), sent("ada", PASSWORD + "!")]) == (
        MailboxParameters("grace", PASSWORD, "Grace H."),
        MailboxParameters("ada", PASSWORD + "!"),
    )
    assert check.violations == []


@pytest.mark.parametrize(("size", "reason"), [(0, REQUIRED), (101, CONSTRAINT), (10_000, CONSTRAINT)])
def test_a_batch_has_1_to_100_mailboxes(size: int, reason: Reason) -> None:
    check = Checker()
    assert check_batch(check, [sent("", "")] * size) == ()
    assert violations(check) == [("mailboxes", reason)]


def test_every_item_of_a_batch_of_100_is_checked() -> None:
    check = Checker()
    assert len(check_batch(check, [sent(f"m{number}", PASSWORD) for number in range(100)])) == 100
    assert check.violations == []
    check_batch(check, [sent(f"m{number}", PASSWORD) for number in range(99)] + [sent("m 99", PASSWORD)])
    assert violations(check) == [("mailboxes[99].local_part", FORMAT)]


def test_all_violations_of_all_items_of_a_batch_are_named() -> None:
    check = Checker()
    check_batch(
        check,
        [
            sent("ada", PASSWORD, "x" * 128),
            sent("", "", "x" * 129),
            sent("bob+x", "short", "tab\t"),
            sent("Ada", "tab\tin the middle"),
            sent("ada", "\n"),
            sent("", PASSWORD),
        ],
    )
    assert violations(check) == [
        ("mailboxes[1].local_part", REQUIRED),
        ("mailboxes[1].password", REQUIRED),
        ("mailboxes[1].display_name", CONSTRAINT),
        ("mailboxes[2].local_part", FORMAT),
        ("mailboxes[2].password", CONSTRAINT),
        ("mailboxes[2].display_name", FORMAT),
        ("mailboxes[3].local_part", CONSTRAINT),
        ("mailboxes[3].password", FORMAT),
        ("mailboxes[4].local_part", CONSTRAINT),
        ("mailboxes[4].password", CONSTRAINT),
        ("mailboxes[4].password", FORMAT),
        ("mailboxes[5].local_part", REQUIRED),
    ]
    (repeated, *_) = [violation for violation in check.violations if violation.field == "mailboxes[4].local_part"]
    assert "mailboxes[0]" in repeated.help_message


def test_a_batch_is_checked_against_its_domain_name() -> None:
    check = Checker()
    name = ".".join(["d" * 63] * 3 + ["com"])  # 195 octets
    batch = [
        MailboxParameters("a" * 58, PASSWORD),  # 254 with the @
        MailboxParameters("b" * 59, PASSWORD),
        MailboxParameters("ada.lovelace", f"Ada.Lovelace@{name}"),
        MailboxParameters("ada.lovelace", "Ada.Lovelace"),
    ]
    check_addresses(check, name, batch)
    assert violations(check) == [
        ("mailboxes[1].local_part", CONSTRAINT),
        ("mailboxes[2].password", CONSTRAINT),
        ("mailboxes[3].password", CONSTRAINT),
    ]


# --- No argument's value ----------------------------------------------------------------------------------------------


def test_a_password_is_not_in_the_repr() -> None:
    assert PASSWORD not in repr(MailboxParameters("ada", PASSWORD))
    assert "ada" in repr(MailboxParameters("ada", PASSWORD))


CHECKS: list[Callable[[Checker, str], object]] = [
    lambda check, sent: check.uuid("id", sent),
    lambda check, sent: check.optional_uuid("id", sent),
    lambda check, sent: check.text("description", sent, 0),
    lambda check, sent: check.password("password", sent),
    lambda check, sent: check_local_part(check, "local_part", sent),
    lambda check, sent: check_domain_name(check, sent, NOTHING_RESERVED),
    lambda check, sent: check_batch(check, [MailboxParameters(sent, sent, sent)] * 2),
    lambda check, sent: check_addresses(check, sent, [MailboxParameters(sent, sent)]),
]

# Contains a character that is in no message.
SENT = st.text(min_size=3, max_size=300).map(lambda text: f"§{text}§")


@pytest.mark.parametrize("check_argument", CHECKS)
@settings(deadline=None)
@given(sent=SENT)
def test_no_message_repeats_an_arguments_value(check_argument: Callable[[Checker, str], object], sent: str) -> None:
    check = Checker()
    check_argument(check, sent)
    for violation in check.violations:
        assert sent not in violation.help_message
        assert "§" not in violation.help_message
        assert "§" not in violation.field
    assert "§" not in str(InvalidArguments(check.violations or [Violation("none", Reason.UNKNOWN, "")]))
