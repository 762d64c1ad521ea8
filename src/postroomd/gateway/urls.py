"""Strict decoding of paths and query strings: undecodable input is an error, never a replacement character."""

import re
from urllib.parse import unquote_to_bytes

from postroomd.gateway.violations import Violations

_INVALID_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
NOT_DECODABLE = "must be percent-encoded UTF-8"


def unquote(raw: str) -> str:
    """Return `raw` without percent-encoding. Raises ValueError for an invalid escape or invalid UTF-8."""
    if "%" not in raw and raw.isascii():
        return raw
    if _INVALID_ESCAPE.search(raw):
        raise ValueError(NOT_DECODABLE)
    return unquote_to_bytes(raw).decode("utf-8")


def parse_query(raw: str, violations: Violations) -> dict[str, list[str]]:
    """Return the parameters of a query string: `a=1&a=2&b=x+y&c=` is {"a": ["1", "2"], "b": ["x y"], "c": []}.

    An empty value means "not set". Names and values that cannot be decoded are added to `violations`.
    """
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
        values = parameters.setdefault(name, [])
        if value:
            values.append(value)
    return parameters
