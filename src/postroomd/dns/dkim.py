"""Evaluation of DKIM key records (RFC 6376, section 3.6.1)."""

import re
from collections.abc import Iterable, Mapping, Sequence

from postroomd.dns.fault import Fault
from postroomd.dns.tag_list import parse_tags

_WHITE_SPACE = re.compile(r"[ \t\r\n]+")


def dkim_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless one record holds the expected key (p) and key type (k)."""
    plan = dict(parse_tags(expected))
    expected_key = _without_white_space(plan["p"])
    faults = [_key_fault(plan, expected_key, text) for text in texts]
    return None if None in faults else faults[0]


def _key_fault(plan: Mapping[str, str], expected_key: str, text: str) -> Fault | None:
    pairs = list(parse_tags(text))
    tags = dict(pairs)
    key = _without_white_space(tags.get("p", ""))
    checks: Iterable[tuple[bool, str]] = (
        ("p" not in tags, "the TXT record under the selector contains no DKIM key"),
        (len(tags) < len(pairs), "the DKIM record has a duplicate tag (RFC 6376, section 3.2)"),
        (tags.get("v", "DKIM1") != "DKIM1", "the DKIM record has another version"),
        (tags.get("k", "rsa").lower() != plan.get("k", "rsa").lower(), "the DKIM key has another type"),
        (not key, "the DKIM key is revoked: its p is empty"),
        (
            key != expected_key and expected_key.startswith(key),
            f"the DKIM key is truncated: {len(key)} of its {len(expected_key)} characters are published",
        ),
        (key != expected_key, "another DKIM key is published"),
    )
    return next((Fault(problem) for failed, problem in checks if failed), None)


def _without_white_space(text: str) -> str:
    return _WHITE_SPACE.sub("", text)
