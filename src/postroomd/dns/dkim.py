"""Evaluation of DKIM key records (RFC 6376, section 3.6.1)."""

import re
from collections.abc import Iterable, Sequence

from postroomd.dns.fault import Fault, missing, warning
from postroomd.dns.formatting import quote
from postroomd.dns.tag_list import TagList, parse_tags

_WHITE_SPACE = re.compile(r"[ \t\r\n]+")
_STRAY = {"\\": "backslashes", '"': "quotes"}


def dkim_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless exactly one key record is published, with the expected key (p) and key type (k)."""
    keys = tuple(text for text in texts if _is_key_record(text))
    if not keys:
        return missing("no TXT record under the selector is a DKIM key")
    if len(keys) > 1:
        return Fault(f"{len(keys)} DKIM keys are published under one selector: publish one", values=keys)
    (key,) = keys
    problem = _key_problem(parse_tags(expected), key)
    if problem is not None:
        return Fault(problem, values=keys)
    flags = _list_value(parse_tags(key), "t")
    if "y" in flags:
        return warning("the DKIM key is in test mode, receivers ignore its signatures: remove t=y", key)
    if len(texts) > len(keys):
        others = [text for text in texts if text not in keys]
        return warning("another TXT record is published under the selector and may be read as the key", *others)
    return None


def _is_key_record(text: str) -> bool:
    """Return whether a text is meant as a key: it has a p tag or the version, leaving stray characters aside."""
    tags = parse_tags(_without_stray(text))
    return "p" in tags.names or tags.get("v").startswith("DKIM")


def _key_problem(plan: TagList, text: str) -> str | None:
    tags = parse_tags(text)
    expected_key, key = _without_white_space(plan.get("p")), _without_white_space(tags.get("p"))
    stray = [noun for character, noun in _STRAY.items() if character in _without_notes(text)]
    checks: Iterable[tuple[bool, str]] = (
        (bool(stray), f"the DKIM record contains stray {' and '.join(stray)}: remove them"),
        (tags.malformed is not None, f"the DKIM record has a syntax error at {quote(tags.malformed or '')}"),
        (len(set(tags.names)) < len(tags.names), "the DKIM record has a duplicate tag (RFC 6376, section 3.2)"),
        ("v" in tags.names[1:], "the DKIM record's v tag must come first"),
        (tags.get("v", "DKIM1") != "DKIM1", "the DKIM record has another version than DKIM1"),
        ("p" not in tags.names, "the DKIM record has no key (p)"),
        (tags.get("k", "rsa").lower() != plan.get("k", "rsa").lower(), "the DKIM key has another type (k)"),
        (not _allows(tags, "h", "sha256"), "the DKIM record's h tag does not allow sha256"),
        (not _allows(tags, "s", "email", "*"), "the DKIM record's s tag allows neither `email` nor `*`"),
        (not key, "the DKIM key is revoked: its p is empty"),
        (
            key != expected_key and expected_key.startswith(key),
            f"the DKIM key is truncated: {len(key)} of its {len(expected_key)} characters are published",
        ),
        (key != expected_key, "another DKIM key is published"),
    )
    return next((problem for failed, problem in checks if failed), None)


def _allows(tags: TagList, name: str, *accepted: str) -> bool:
    """Return whether a colon-separated tag contains one of the values; an absent tag allows everything."""
    return name not in tags.names or not _list_value(tags, name).isdisjoint(accepted)


def _list_value(tags: TagList, name: str) -> set[str]:
    return {item.strip(" \t\r\n").lower() for item in tags.get(name).split(":")}


def _without_notes(text: str) -> str:
    """Return the text without its n tag, which may contain any printable character."""
    return ";".join(part for part in text.split(";") if part.partition("=")[0].strip() != "n")


def _without_stray(text: str) -> str:
    return "".join(character for character in text if character not in _STRAY)


def _without_white_space(text: str) -> str:
    return _WHITE_SPACE.sub("", text)
