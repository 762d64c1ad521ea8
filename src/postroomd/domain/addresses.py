"""E-mail addresses: a local part and a domain name, and which local parts are accepted."""

import re
from dataclasses import dataclass
from string import ascii_lowercase, digits

MAX_LOCAL_PART = 64  # octets, RFC 5321, section 4.5.3.1.1
MAX_ADDRESS = 254  # octets, the limit of a path in RFC 5321, section 4.5.3.1.3, without its angle brackets
ADDRESS_TOO_LONG = f"the whole address must have at most {MAX_ADDRESS} octets (RFC 5321)"

_REFUSED = {
    "+": "the recipient delimiter: mail to name+detail is delivered to name",
    "%": "by which mail servers may route mail to another host (RFC 5321, appendix F.2)",
    "|": "with which mail servers may start a program",
    "/": "with which mail servers may write to a file",
    "*": "which mail servers may take for a wildcard",
}
"""Characters of a dot-atom that are refused, and why: they are dangerous to mail systems."""

# RFC 5322, section 3.2.3, without the characters that are refused.
_SPECIALS = "!#$&'=?^_`{}~-"
_ATEXT = rf"[A-Za-z0-9{_SPECIALS}]+"
_DOT_ATOM = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")

LOCAL_PART_CHARACTERS = ascii_lowercase + digits + _SPECIALS + "."
"""Every character of stored local parts."""


@dataclass(frozen=True, slots=True)
class Address:
    """An e-mail address; `str(address)` is `local_part@domain_name`."""

    local_part: str
    domain_name: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address that a text contains. Raises ValueError for a text without an `@`.

        Neither part is checked: a stored address is canonical already.
        """
        local_part, separator, domain_name = text.rpartition("@")
        if not separator:
            raise ValueError("must be an address of the form local_part@domain_name")
        return cls(local_part, domain_name)

    def __str__(self) -> str:
        return f"{self.local_part}@{self.domain_name}"

    @property
    def is_too_long(self) -> bool:
        """Whether the address has more than MAX_ADDRESS octets."""
        return len(self.local_part) + 1 + len(self.domain_name) > MAX_ADDRESS


def canonical_local_part(text: str) -> str:
    """Return the stored form of a local part, which is in lower case.

    Raises ValueError, with a message for the caller, for anything but a dot-atom of 1 to 64 octets, for one with `+`,
    `%`, `|`, `/` or `*`, and for one with a leading `-`. Stored addresses are not checked again.
    """
    if not text.isascii():
        raise ValueError(f"must be ASCII letters, digits and {_SPECIALS}. (SMTPUTF8, RFC 6531, is not supported)")
    if text.startswith('"'):
        raise ValueError("must be a dot-atom (RFC 5322): quoted local parts are not supported")
    for character, reason in _REFUSED.items():
        if character in text:
            raise ValueError(f"must not contain `{character}`, {reason}")
    if text.startswith("-"):
        raise ValueError("must not begin with `-`, which mail programs take for an option")
    if len(text) > MAX_LOCAL_PART:
        raise ValueError(f"must have at most {MAX_LOCAL_PART} octets")
    if not _DOT_ATOM.fullmatch(text):
        raise ValueError(f"must be a dot-atom (RFC 5322): letters, digits, {_SPECIALS} and inner dots")
    return text.lower()
