"""Evaluation of DMARC records (RFC 7489)."""

import re
from collections.abc import Mapping, Sequence

from postroomd.dns.fault import Fault
from postroomd.dns.tag_list import parse_tags

_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_POLICY = re.compile(r"none|quarantine|reject", re.IGNORECASE)
_ALIGNMENT = re.compile(r"[rs]", re.IGNORECASE)
_TAG_VALUES: Mapping[str, re.Pattern[str]] = {
    "p": _POLICY,
    "sp": _POLICY,
    "adkim": _ALIGNMENT,
    "aspf": _ALIGNMENT,
    "pct": re.compile(r"100|[0-9]{1,2}"),
    "ri": re.compile(r"[0-9]{1,10}"),
}
"""Tag -> valid values (RFC 7489, section 6.3). Other tags are not checked."""


def dmarc_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless there is one well-formed DMARC record (RFC 7489, section 6.6.3). Any policy is valid."""
    del expected
    records = [text for text in texts if _VERSION.match(text)]
    if not records:
        return Fault("no TXT record of the name starts with `v=DMARC1`")
    if len(records) > 1:
        return Fault(f"{len(records)} DMARC records are published: receivers ignore all of them (RFC 7489, 6.6.3)")
    tags = [(name.lower(), value) for name, value in parse_tags(records[0])]
    names = [name for name, _ in tags]
    if "p" not in names:
        return Fault("the DMARC record has no policy (p)")
    if len(set(names)) < len(names):
        return Fault("the DMARC record has a duplicate tag")
    for name, value in tags:
        allowed = _TAG_VALUES.get(name)
        if allowed and not allowed.fullmatch(value):
            return Fault(f"the DMARC record's tag {name} is malformed")
    return None
