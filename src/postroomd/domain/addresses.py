"""Local parts and domain names: which are legal, and their one stored form.

IDNA and the public suffix list come from libraries that carry their tables: nothing is fetched.
"""

import re
from functools import cache

import idna
from publicsuffixlist import PublicSuffixList

MAX_LOCAL_PART = 64  # octets, RFC 5321, section 4.5.3.1.1
MAX_ADDRESS = 254  # octets, what fits the path of RFC 5321, section 4.5.3.1.3
MIN_DOMAIN_NAME, MAX_DOMAIN_NAME = 4, 253  # octets without the final dot

# RFC 5322, section 3.2.3, less `+`: it separates the recipient from the detail in what mail servers deliver.
_ATEXT = r"[A-Za-z0-9!#$%&'*/=?^_`{|}~-]+"
_DOT_ATOM = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")


def canonical_local_part(text: str) -> str:
    """The stored form of a local part: lower case.

    Raises ValueError, with a text for the caller, for anything but a dot-atom of 1 to 64 octets without `+`.
    """
    if not text.isascii():
        raise ValueError("only ASCII letters, digits and !#$%&'*/=?^_`{|}~-. are served (no SMTPUTF8, RFC 6531)")
    if text.startswith('"'):
        raise ValueError("quoted local parts are not served: write a dot-atom (RFC 5322)")
    if "+" in text:
        raise ValueError("`+` is the recipient delimiter: mail to name+detail reaches name already")
    if len(text) > MAX_LOCAL_PART:
        raise ValueError(f"at most {MAX_LOCAL_PART} octets")
    if not _DOT_ATOM.fullmatch(text):
        raise ValueError("a dot-atom (RFC 5322) is expected: letters, digits, !#$%&'*/=?^_`{|}~- and dots within")
    return text.lower()


def canonical_domain_name(text: str) -> str:
    """The stored form of a domain name: A-labels (IDNA 2008) in lower case, without a final dot.

    Raises ValueError, with a text for the caller, for a name of under two labels or outside 4 to 253 octets, for a
    public suffix, and for an IP address.
    """
    # The conversion takes time by the square of a label's length: what can't fit is not converted.
    if len(text.removesuffix(".")) > MAX_DOMAIN_NAME:
        raise ValueError(f"at most {MAX_DOMAIN_NAME} octets")
    try:
        name = idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower().removesuffix(".")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError("not a host name under IDNA 2008 (RFC 5891)") from error
    labels = name.split(".")
    if not MIN_DOMAIN_NAME <= len(name) <= MAX_DOMAIN_NAME:
        raise ValueError(f"{MIN_DOMAIN_NAME} to {MAX_DOMAIN_NAME} octets as A-labels")
    if len(labels) < 2:
        raise ValueError("at least two labels")
    if labels[-1].isdigit():
        raise ValueError("an IP address is not a domain name")
    if _public_suffixes().is_public(name):
        raise ValueError("a public suffix can't be registered, only a name below it")
    return name


def load_tables() -> None:
    """Read the public suffix list now rather than with the first domain name: it takes a tenth of a second."""
    _public_suffixes()


def organizational_domain(name: str) -> str | None:
    """Return the public suffix of a domain name with one label before it; None for a public suffix itself."""
    organizational: str | None = _public_suffixes().privatesuffix(name)
    return organizational


@cache
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()
