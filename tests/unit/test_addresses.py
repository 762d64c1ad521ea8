"""Addresses, and which local parts are accepted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.domain.addresses import Address, canonical_local_part

SPECIALS = "!#$&'=?^_`{}~-"


@pytest.mark.parametrize(
    "text", ["ada@example.com", "a@b@example.com", "@example.com", "ada@", "@", "-a%b|c/d*@example.com"]
)
def test_an_address_is_parsed_at_its_last_at_sign(text: str) -> None:
    address = Address.parse(text)
    assert str(address) == text
    assert (address.local_part, "@", address.domain_name) == text.rpartition("@")


@pytest.mark.parametrize("text", ["", "ada", "example.com"])
def test_a_text_without_an_at_sign_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="local_part@domain_name"):
        Address.parse(text)


@pytest.mark.parametrize(("length", "too_long"), [(1, False), (58, False), (59, True), (64, True)])
def test_an_address_has_at_most_254_octets(length: int, too_long: bool) -> None:
    assert Address("a" * length, "d" * 195).is_too_long == too_long


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("ada", "ada"),
        ("Ada.Lovelace", "ada.lovelace"),
        ("a", "a"),
        ("0", "0"),
        ("a.b.c", "a.b.c"),
        ("a-", "a-"),
        ("a.-b", "a.-b"),
        ("_underscore_", "_underscore_"),
        (SPECIALS, SPECIALS),
        ("POSTMASTER", "postmaster"),
        ("a" * 64, "a" * 64),
    ],
)
def test_a_dot_atom_is_stored_in_lower_case(sent: str, stored: str) -> None:
    assert canonical_local_part(sent) == stored


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("", "dot-atom"),
        (".ada", "dot-atom"),
        ("ada.", "dot-atom"),
        ("ada..lovelace", "dot-atom"),
        (".", "dot-atom"),
        ("ada lovelace", "dot-atom"),
        (" ada", "dot-atom"),
        ("ada\n", "dot-atom"),
        ("ada\x00", "dot-atom"),
        ("ada\x7f", "dot-atom"),
        ("ada@example", "dot-atom"),
        ("ada,lovelace", "dot-atom"),
        ("ada;", "dot-atom"),
        ("ada:b", "dot-atom"),
        ("ada(comment)", "dot-atom"),
        ("<ada>", "dot-atom"),
        ("[ada]", "dot-atom"),
        ("ada\\b", "dot-atom"),
        ('ada"b', "dot-atom"),
        ('"ada"', "quoted"),
        ('"ada lovelace"', "quoted"),
        ("ada+lists", "recipient delimiter"),
        ("+", "recipient delimiter"),
        ("ada%example.org", "must not contain `%`"),
        ("|ada", r"must not contain `\|`"),
        ("ada/../etc", "must not contain `/`"),
        ("ada*", r"must not contain `\*`"),
        ("-ada", "must not begin with `-`"),
        ("-", "must not begin with `-`"),
        ("a" * 65, "64 octets"),
        ("zoë", "SMTPUTF8"),
        ("\N{CYRILLIC SMALL LETTER A}da", "SMTPUTF8"),
        ("\N{FULLWIDTH LATIN SMALL LETTER A}", "SMTPUTF8"),
        ("ada\N{ZERO WIDTH SPACE}", "SMTPUTF8"),
        ("\N{KELVIN SIGN}", "SMTPUTF8"),  # its lower case is an ASCII k
    ],
)
def test_any_other_local_part_is_refused_with_the_reason(sent: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        canonical_local_part(sent)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_a_canonical_local_part_is_its_own_canonical_form(sent: str) -> None:
    try:
        stored = canonical_local_part(sent)
    except ValueError:
        return
    assert stored == sent.lower()
    assert not set(stored) & set("+%|/*")
    assert not stored.startswith("-")
    assert canonical_local_part(stored) == stored
    assert 1 <= len(stored.encode("ascii")) <= 64
