"""Evaluation of the validation token, which proves control of a name."""

from collections.abc import Sequence

from postroomd.dns.fault import Fault, missing

_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019"  # ASCII and typographic
_DECORATION = _QUOTES + "\\ \t\r\n\xa0"


def validation_token_fault(expected: str, texts: Sequence[str]) -> Fault | None:
    """Return the fault unless one TXT record is exactly the expected value, a prefix and the token."""
    if expected in texts:
        return None
    prefix, equals, token = expected.rpartition("=")
    prefix += equals
    for text in texts:
        bare = _decoded(text).strip(_DECORATION)
        if bare == expected:
            return Fault(f"the validation token is published with {_decoration(text)}: remove them", values=(text,))
        if "".join(bare.split()) == expected:
            return Fault("the validation token is published with white space inside: remove it", values=(text,))
        if bare.lower() == expected.lower():
            return Fault("the validation token is published in another letter case: copy it exactly", values=(text,))
        if prefix and bare == token:
            return Fault(f"the validation token is published without the prefix `{prefix}`: add it", values=(text,))
    others = tuple(text for text in texts if prefix and _decoded(text).strip(_DECORATION).startswith(prefix))
    if others:
        return Fault("the published validation token belongs to another registration of this name", values=others)
    return missing("no TXT record of the name is a validation token")


def _decoded(text: str) -> str:
    """Return a TXT value, octets decoded as Latin-1, as UTF-8 where it is: panels insert typographic quotes."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _decoration(text: str) -> str:
    decoded = _decoded(text)
    return "quotes around it" if any(quote in decoded for quote in _QUOTES) else "surrounding spaces"
