"""Strict reading of paths and query strings: what does not decode is a fault, never a replacement character."""

import re
from urllib.parse import unquote_to_bytes

from postroomd.gateway.violations import Violations

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
NOT_DECODABLE = "must be percent-encoded UTF-8"


def unquote(raw: str) -> str:
    """Undo percent-encoding. Raises ValueError on a broken escape and on anything but UTF-8."""
    if "%" not in raw and raw.isascii():
        return raw
    if _BROKEN_ESCAPE.search(raw):
        raise ValueError(NOT_DECODABLE)
    return unquote_to_bytes(raw).decode("utf-8")


def parse_query(raw: str, violations: Violations) -> dict[str, list[str]]:
    """Read `a=1&a=2&b=x+y` into {"a": ["1", "2"], "b": ["x y"]}; what does not decode becomes a violation."""
    parameters: dict[str, list[str]] = {}
    for pair in filter(None, raw.split("&")):
        raw_name, _, raw_value = pair.replace("+", " ").partition("=")
        try:
            name = unquote(raw_name)
        except ValueError:
            violations.add("query", "format", NOT_DECODABLE)
            continue
        try:
            value = unquote(raw_value)
        except ValueError:
            violations.add(name, "format", NOT_DECODABLE)
            continue
        parameters.setdefault(name, []).append(value)
    return parameters
