"""Which passwords are accepted, and the form that is hashed."""

import pytest

from postroomd.domain.common_passwords import COMMON_PASSWORDS
from postroomd.domain.errors import InvalidArguments
from postroomd.domain.passwords import InvalidPasswordLength, WeakPassword, canonical_password
from postroomd.domain.records import RecordPlan, plan_records
from postroomd.domain.validation import check_record_names, checking
from tests.support.mail_hosts import MAIL_HOSTS


@pytest.mark.parametrize(
    ("sent", "hashed"),
    [
        ("correct horse", "correct horse"),
        ("cafe\u0301 au lait", "caf\u00e9 au lait"),
        ("caf\u00e9\u00a0au\u3000lait", "caf\u00e9 au lait"),
        ("STRASSE 12345", "STRASSE 12345"),
        ("{not a scheme} 1", "{not a scheme} 1"),
        ("a{SSHA}longer one", "a{SSHA}longer one"),
        ("e\u0301" * 127 + "f", "\u00e9" * 127 + "f"),
        (" " * 11 + "x", " " * 11 + "x"),
    ],
)
def test_a_password_is_normalized_by_rfc_8265(sent: str, hashed: str) -> None:
    assert canonical_password(sent) == hashed
    assert canonical_password(hashed) == hashed


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "not its hash"),
        ("{SSHA512.b64}0123456789abcdef", "not its hash"),
        ("{plain}0123456789abcdef", "not its hash"),
        ("with\u200dzero-width joiner", "OpaqueString"),
        ("a lone surrogate \ud800", "OpaqueString"),
        ("control\x07character", "OpaqueString"),
    ],
)
def test_a_password_that_no_client_could_send_is_refused(sent: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        canonical_password(sent)
    assert sent not in str(refused.value)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (" " * 12, "spaces only"),
        ("\u3000\u00a0" * 6, "spaces only"),
        ("x" * 12, "one repeated character"),
        ("x" * 128, "one repeated character"),
        ("e\u0301\u00e9" * 6, "one repeated character"),
        ("\U0001f4a9" * 12, "one repeated character"),
        ("qwertyuiop123", "most common passwords"),
        ("PassWord1234", "most common passwords"),
        ("1q2w3e4r5t6y", "most common passwords"),
    ],
)
def test_a_password_that_anyone_would_try_is_refused(sent: str, message: str) -> None:
    with pytest.raises(WeakPassword, match=message) as refused:
        canonical_password(sent)
    assert sent not in str(refused.value)


@pytest.mark.parametrize("sent", ["x" * 11 + "y", "xX" * 6, "qwertyuiop1238", "PassWord 1234"])
def test_a_password_that_only_resembles_one_is_accepted(sent: str) -> None:
    assert canonical_password(sent) == sent


def test_every_listed_password_could_be_sent() -> None:
    for password in COMMON_PASSWORDS:
        assert password == password.lower()
        with pytest.raises(WeakPassword, match="common"):
            canonical_password(password.upper())


@pytest.mark.parametrize("sent", ["", "x" * 11, "e\u0301" * 11, "x" * 129, "x" * 4_000_000])
def test_the_length_is_that_of_the_normalized_password(sent: str) -> None:
    with pytest.raises(InvalidPasswordLength):
        canonical_password(sent)


def test_a_domain_name_leaves_room_for_its_required_records() -> None:
    fits = "a" * (253 - len("_postroom-challenge.") - len(".example")) + ".example"
    with checking() as check:
        check_record_names(check, plans_of(fits))
    with pytest.raises(InvalidArguments) as refused, checking() as check:
        check_record_names(check, plans_of(f"a{fits}"))
    assert "254 octets" in refused.value.violations[0].help_message


def plans_of(name: str) -> list[RecordPlan]:
    return plan_records(name, MAIL_HOSTS, token="", dkim_selector="postroom", dkim_key="")
