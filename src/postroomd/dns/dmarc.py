"""Evaluation of DMARC records (RFC 7489)."""

import re
from collections.abc import Mapping, Sequence

from postroomd.dns.fault import Fault, missing
from postroomd.dns.formatting import quote
from postroomd.dns.tag_list import parse_tags

_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_POLICY = re.compile(r"none|quarantine|reject", re.IGNORECASE)
_ALIGNMENT = re.compile(r"[rs]", re.IGNORECASE)
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:[^\s,!]+(?:![0-9]+[kmgtKMGT]?)?"
_URIS = re.compile(rf"{_URI}(?:[ \t]*,[ \t]*{_URI})*")
_TAG_VALUES: Mapping[str, re.Pattern[str]] = {
    "p": _POLICY,
    "sp": _POLICY,
    "adkim": _ALIGNMENT,
    "aspf": _ALIGNMENT,
    "pct": re.compile(r"100|[0-9]{1,2}"),
    "ri": re.compile(r"[0-9]{1,10}"),
    "rua": _URIS,
    "ruf": _URIS,
}
"""Tag -> valid values (RFC 7489, section 6.3). Other tags are not checked."""


def dmarc_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless there is one well-formed DMARC record (RFC 7489, section 6.6.3). Any policy is valid."""
    del expected
    records = tuple(text for text in texts if _VERSION.match(text))
    if not records:
        return missing("no TXT record of the name starts with `v=DMARC1`")
    if len(records) > 1:
        problem = f"{len(records)} DMARC records are published: receivers ignore all of them (RFC 7489, 6.6.3)"
        return Fault(problem, values=records)
    fault = _problem(records[0])
    return None if fault is None else Fault(fault, values=records)


def _problem(record: str) -> str | None:
    tags = parse_tags(record)
    names = [name.lower() for name in tags.names]
    if tags.malformed is not None:
        return f"the DMARC record has a syntax error at {quote(tags.malformed)}"
    if "p" not in names:
        return "the DMARC record has no policy (p)"
    if len(set(names)) < len(names):
        return "the DMARC record has a duplicate tag"
    for name, value in tags.tags:
        allowed = _TAG_VALUES.get(name.lower())
        if allowed and not allowed.fullmatch(value):
            return f"the DMARC record's tag {name.lower()} is malformed"
    return None
