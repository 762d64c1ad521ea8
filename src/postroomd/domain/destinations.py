"""Destinations of forwardings: which addresses are accepted, their stored form, and their comparison.

A destination may belong to any mail system: its local part is stored as it was sent (RFC 5321, section 2.4), and may
contain a detail, as in ann+news@example.com.
"""

import re

from postroomd.domain.addresses import ADDRESS_TOO_LONG, MAX_LOCAL_PART, Address
from postroomd.domain.domain_names import canonical_mail_domain

# RFC 5322, section 3.2.3, without characters that are dangerous to mail systems: `|` starts programs, `/` names files,
# `*` is a wildcard, and `%` routes mail to other hosts (RFC 5321, appendix F.2).
_SPECIALS = "!#$&'+=?^_`{}~-"
_ATEXT = rf"[A-Za-z0-9{_SPECIALS}]+"
_DOT_ATOM = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")


def canonical_destination(text: str) -> str:
    """Return the stored form of a destination: the local part as it was sent, and the domain as A-labels in lower case.

    Raises ValueError, with a message for the caller, for anything but an address of a host name and a dot-atom without
    `%`, `|`, `/`, `*` and a leading `-`.
    """
    if "@" not in text:
        raise ValueError("must be an address of the form local_part@domain_name")
    sent = Address.parse(text)
    _require_local_part(sent.local_part)
    try:
        domain_name = canonical_mail_domain(sent.domain_name)
    except ValueError as error:
        raise ValueError(f"the domain {error}") from error
    address = Address(sent.local_part, domain_name)
    if address.is_too_long:
        raise ValueError(ADDRESS_TOO_LONG)
    return str(address)


def _require_local_part(text: str) -> None:
    if not text.isascii():
        raise ValueError(
            f"the local part must be ASCII letters, digits and {_SPECIALS}. (SMTPUTF8, RFC 6531, is not supported)"
        )
    if text.startswith('"'):
        raise ValueError("the local part must be a dot-atom (RFC 5322): quoted local parts are not supported")
    if text.startswith("-"):
        raise ValueError("the local part must not begin with `-`, which mail programs take for an option")
    if len(text) > MAX_LOCAL_PART:
        raise ValueError(f"the local part must have at most {MAX_LOCAL_PART} octets")
    if not _DOT_ATOM.fullmatch(text):
        raise ValueError(f"the local part must be a dot-atom (RFC 5322): letters, digits, {_SPECIALS} and inner dots")


def is_same_destination(one: str, other: str) -> bool:
    """Return whether two stored destinations are the same: no mail system in use distinguishes them by case."""
    return one.lower() == other.lower()


def local_address(destination: str) -> str:
    """Return the address of a mailbox or alias that receives a destination's mail, if its domain is Postroom's.

    It is in lower case and without a detail: mail to name+detail is delivered to name.
    """
    address = Address.parse(destination.lower())
    name = address.local_part.partition("+")[0] or address.local_part
    return str(Address(name, address.domain_name))
