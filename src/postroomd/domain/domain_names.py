"""Domain names: which ones can be registered, and their stored form.

IDNA and the public suffix list come from libraries that ship their tables: nothing is downloaded.
"""

import re
from functools import cache

import idna
from publicsuffixlist import PublicSuffixList

_MAX_LABEL = 63  # octets
_LABEL_SEPARATORS = re.compile("[.\u3002\uff0e\uff61]")  # as UTS #46 maps them

MIN_DOMAIN_NAME, MAX_DOMAIN_NAME = 4, 253  # octets without the final dot


def canonical_domain_name(text: str) -> str:
    """Return the stored form of a domain name to register: that of `canonical_mail_domain`, and no public suffix.

    Raises ValueError, with a message for the caller.
    """
    name = canonical_mail_domain(text)
    if is_public_suffix(name):
        raise ValueError("must not be a public suffix: register a name below it")
    return name


def canonical_mail_domain(text: str) -> str:
    """Return the stored form of a domain name in an address: A-labels (IDNA 2008) in lower case, without a final dot.

    Raises ValueError, with a message for the caller, for a name with fewer than two labels or outside 4 to 253 octets,
    and for an IP address.
    """
    # The conversion takes time quadratic in the length of a label: reject an oversized name before it.
    if len(text.removesuffix(".")) > MAX_DOMAIN_NAME:
        raise ValueError(f"must have at most {MAX_DOMAIN_NAME} octets")
    try:
        name = idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower().removesuffix(".")
    except (idna.IDNAError, UnicodeError) as error:
        if any(label[2:4] == "--" and label[:2].lower() != "xn" for label in text.split(".")):
            raise ValueError(
                "must not have hyphens in positions 3 and 4 of a label, which are reserved (RFC 5891)"
            ) from error
        raise ValueError("must be a host name under IDNA 2008 (RFC 5891)") from error
    labels = name.split(".")
    if len(labels) < 2:
        raise ValueError("must have at least two labels, such as example.com")
    if not MIN_DOMAIN_NAME <= len(name) <= MAX_DOMAIN_NAME:
        raise ValueError(f"must have {MIN_DOMAIN_NAME} to {MAX_DOMAIN_NAME} octets as A-labels")
    if labels[-1].isdigit():
        raise ValueError("must not be an IP address")
    return name


def search_text(text: str) -> str:
    """Return a text as a substring search compares it with stored names and addresses, in lower case.

    Labels after the last `@` become A-labels where that succeeds. Without an `@`, those that are not ASCII do: local
    parts always are. A part of a U-label stays as it is, and matches nothing.
    """
    before, separator, after = text.rpartition("@")
    labels = [_a_label(label) for label in _LABEL_SEPARATORS.split(after)]
    return f"{before}{separator}{'.'.join(labels)}".lower()


def _a_label(label: str) -> str:
    if label.isascii() or len(label) > _MAX_LABEL:
        return label
    try:
        return idna.encode(label, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return label


def load_tables() -> None:
    """Load the public suffix list, which takes about 0.1 s, before the first domain name needs it."""
    _public_suffixes()


def is_public_suffix(name: str) -> bool:
    """Return whether a canonical name is a public suffix."""
    return bool(_public_suffixes().is_public(name))


def organizational_domain(name: str) -> str | None:
    """Return the public suffix of a domain name with one label before it; None for a public suffix itself."""
    organizational: str | None = _public_suffixes().privatesuffix(name)
    return organizational


@cache
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()
