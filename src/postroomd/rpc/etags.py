"""Comparison of an `etag` field of a request with the etag of a resource."""

import re
from itertools import islice

MAX_ETAGS = 32
"""Etags that one request can name; further ones never match."""

_ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')


def etag_matches(expected: str, current: str) -> bool:
    """Whether `expected` names the etag `current`: by itself, or in a list as in If-Match, `"1a", "1b"`.

    Uses the strong comparison of RFC 9110, section 8.8.3.2: a weak etag never matches.
    """
    if expected == current or '"' not in expected:
        return expected == current
    return any(not tag[1] and tag[2] == current for tag in islice(_ENTITY_TAG.finditer(expected), MAX_ETAGS))
