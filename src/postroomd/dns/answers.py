"""What a look-up has come to, between those who ask and those who judge."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a look-up has ended."""

    FOUND = "found"
    NO_DATA = "no_data"  # the name exists, with no record of the type
    NO_NAME = "no_name"  # NXDOMAIN
    LOOP = "loop"  # CNAME records that lead back to one of their own names
    TOO_LONG = "too_long"  # more CNAME records in a row than are followed
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the authoritative servers say of one name and type.

    `values` are texts: the strings of a TXT record joined, octet by octet as Latin-1; for other types the form of a
    zone file. `chain` is the name asked for and those that CNAME records led to, without final dots; `reason` says
    why a look-up failed.
    """

    outcome: Outcome
    chain: tuple[str, ...]
    values: tuple[str, ...] = ()
    reason: str = ""
