"""SPF, DKIM and DMARC records: is what is published what Postroom's hosts need?

Each rule takes the value that is expected and the TXT records that were found, and answers what is wrong.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from postroomd.domain.model import RecordStatus

_SPF_VERSION = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
# RFC 7208, section 12, less the syntax of each argument: a term outside it makes the whole record a permanent error.
_SPF_TERM = re.compile(
    r"(?P<qualifier>[+?~-]?)(?P<mechanism>all|(?:include|exists|ip4|ip6):\S+|(?:a|mx|ptr)(?:[:/]\S+)?)"
    r"|(?P<modifier>[a-z][a-z0-9_.-]*=\S*)",
    re.IGNORECASE,
)
_REJECTING = {"-": "says that mail from there is to be refused", "~": "says that mail from there is doubtful"}

_WHITE_SPACE = re.compile(r"[ \t\r\n]+")

_DMARC_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_DMARC_POLICY = re.compile(r"none|quarantine|reject", re.IGNORECASE)
_DMARC_ALIGNMENT = re.compile(r"[rs]", re.IGNORECASE)
_DMARC_TAGS: Mapping[str, re.Pattern[str]] = {
    "p": _DMARC_POLICY,
    "sp": _DMARC_POLICY,
    "adkim": _DMARC_ALIGNMENT,
    "aspf": _DMARC_ALIGNMENT,
    "pct": re.compile(r"100|[0-9]{1,2}"),
    "ri": re.compile(r"[0-9]{1,10}"),
}
"""Tag -> what it may say (RFC 7489, section 6.3). Others, known or not, are left to the receivers."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with what is published, as a clause."""

    problem: str
    status: RecordStatus = RecordStatus.INVALID


def spf_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """RFC 7208: one SPF record, which includes ours as a pass, before any `all`. The rest is the domain's own."""
    records = [text for text in texts if _SPF_VERSION.match(text)]
    if not records:
        return Fault("no TXT record of the name begins with `v=spf1`", RecordStatus.NOT_FOUND)
    if len(records) > 1:
        return Fault(
            f"{len(records)} SPF records are published, a permanent error (RFC 7208, 4.5): merge them into one"
        )
    (ours,) = (term for term in _spf_terms(expected) if _is_include(term))
    after_all = False
    for term in _spf_terms(records[0]):
        match = _SPF_TERM.fullmatch(term)
        if match is None:
            return Fault("the SPF record has a term that is none of SPF's, a permanent error (RFC 7208, 4.6)")
        mechanism = (match["mechanism"] or "").lower().rstrip(".")
        if mechanism == ours.lower().rstrip("."):
            if after_all:
                return Fault("the include stands after `all`, where it is not looked at (RFC 7208, 5.1)")
            if match["qualifier"] in _REJECTING:
                return Fault(f"the include's qualifier `{match['qualifier']}` {_REJECTING[match['qualifier']]}")
            return None
        after_all = after_all or mechanism == "all"
    return Fault("the SPF record does not include ours")


def dkim_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """RFC 6376, section 3.6.1: our key (p) of its type (k) under the selector, however it is laid out."""
    ours = dict(_tags(expected))
    wanted = _without_white_space(ours["p"])
    faults = [_dkim_key_fault(ours, wanted, text) for text in texts]
    return None if None in faults else faults[0]


def dmarc_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """RFC 7489, section 6.6.3: one DMARC record, well-formed. Which policy it sets is the domain's own choice."""
    del expected  # any policy serves
    records = [text for text in texts if _DMARC_VERSION.match(text)]
    if not records:
        return Fault("no TXT record of the name begins with `v=DMARC1`")
    if len(records) > 1:
        return Fault(f"{len(records)} DMARC records are published, and receivers ignore them all (RFC 7489, 6.6.3)")
    tags = [(name.lower(), value) for name, value in _tags(records[0])]
    names = [name for name, _ in tags]
    if "p" not in names:
        return Fault("the DMARC record sets no policy (p)")
    if len(set(names)) < len(names):
        return Fault("the DMARC record has a tag twice")
    for name, value in tags:
        allowed = _DMARC_TAGS.get(name)
        if allowed and not allowed.fullmatch(value):
            return Fault(f"the DMARC record's tag {name} is malformed")
    return None


def _dkim_key_fault(ours: Mapping[str, str], wanted: str, text: str) -> Fault | None:
    pairs = list(_tags(text))
    tags = dict(pairs)
    found = _without_white_space(tags.get("p", ""))
    checks: Iterable[tuple[bool, str]] = (
        ("p" not in tags, "the TXT record under the selector holds no DKIM key"),
        (len(tags) < len(pairs), "the DKIM record has a tag twice (RFC 6376, 3.2)"),
        (tags.get("v", "DKIM1") != "DKIM1", "the DKIM record is of another version"),
        (tags.get("k", "rsa").lower() != ours.get("k", "rsa").lower(), "the DKIM key is of another type"),
        (not found, "the DKIM key is withdrawn: its p is empty"),
        (
            found != wanted and wanted.startswith(found),
            f"the DKIM key is cut off: {len(found)} of its {len(wanted)} characters are published",
        ),
        (found != wanted, "another DKIM key is published"),
    )
    return next((Fault(problem) for wrong, problem in checks if wrong), None)


def _spf_terms(record: str) -> list[str]:
    return [term for term in record.split(" ")[1:] if term]


def _is_include(term: str) -> bool:
    return term.lower().startswith("include:")


def _tags(text: str) -> Iterator[tuple[str, str]]:
    """The tags of a tag-list (RFC 6376, section 3.2), in order. What is no tag is passed over."""
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            yield name.strip(" \t\r\n"), value.strip(" \t\r\n")


def _without_white_space(text: str) -> str:
    return _WHITE_SPACE.sub("", text)
