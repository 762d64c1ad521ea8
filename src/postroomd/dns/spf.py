"""Evaluation of SPF records (RFC 7208)."""

import re
from collections.abc import Sequence

from postroomd.dns.fault import Fault
from postroomd.domain.model import RecordStatus

_VERSION = re.compile(r"v=spf1(?: |\Z)", re.IGNORECASE)
# RFC 7208, section 12, without the syntax of each argument: any other term makes the record a permanent error.
_TERM = re.compile(
    r"(?P<qualifier>[+?~-]?)(?P<mechanism>all|(?:include|exists|ip4|ip6):\S+|(?:a|mx|ptr)(?:[:/]\S+)?)"
    r"|(?P<modifier>[a-z][a-z0-9_.-]*=\S*)",
    re.IGNORECASE,
)
_NON_PASS_RESULTS = {"-": "fail", "~": "softfail"}


def spf_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless there is one SPF record that includes ours with a passing result before any `all`."""
    records = [text for text in texts if _VERSION.match(text)]
    if not records:
        return Fault("no TXT record of the name starts with `v=spf1`", RecordStatus.NOT_FOUND)
    if len(records) > 1:
        return Fault(
            f"{len(records)} SPF records are published, a permanent error (RFC 7208, section 4.5): merge them into one"
        )
    (include,) = (term for term in _terms(expected) if term.lower().startswith("include:"))
    after_all = False
    for term in _terms(records[0]):
        match = _TERM.fullmatch(term)
        if match is None:
            return Fault("the SPF record has an invalid term, a permanent error (RFC 7208, section 4.6)")
        mechanism = (match["mechanism"] or "").lower().rstrip(".")
        if mechanism == include.lower().rstrip("."):
            if after_all:
                return Fault("the include follows `all` and is ignored (RFC 7208, section 5.1)")
            if match["qualifier"] in _NON_PASS_RESULTS:
                result = _NON_PASS_RESULTS[match["qualifier"]]
                return Fault(f"the include's qualifier `{match['qualifier']}` makes the result {result}")
            return None
        after_all = after_all or mechanism == "all"
    return Fault("the SPF record does not include ours")


def _terms(record: str) -> list[str]:
    return [term for term in record.split(" ")[1:] if term]
