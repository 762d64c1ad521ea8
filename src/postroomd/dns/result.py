"""Result of a DNS lookup: produced by `lookup`, consumed by `evaluation`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class LookupStatus(StrEnum):
    """How a lookup ended."""

    FOUND = "found"
    NO_DATA = "no_data"  # the name exists, but has no record of the type
    NXDOMAIN = "nxdomain"
    CNAME_LOOP = "cname_loop"
    CNAME_CHAIN_TOO_LONG = "cname_chain_too_long"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupResult:
    """What the authoritative servers returned for one name and type.

    `values` holds one text per record: the concatenated strings of a TXT record, octets decoded as Latin-1; the zone
    file presentation for other types. `chain` is the queried name followed by the CNAME targets, without trailing
    dots. `error` is the cause of a FAILED lookup.
    """

    status: LookupStatus
    chain: tuple[str, ...]
    values: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class EveryServersResult:
    """The results of a lookup at every authoritative server that responded; equal ones are listed once.

    `unasked` is the reason why some servers could not be asked, other than their own failures, or "".
    """

    results: Sequence[LookupResult]
    unasked: str = ""
