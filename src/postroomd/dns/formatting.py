"""Formatting of published DNS data for error messages: untrusted input becomes printable, bounded ASCII."""

from collections.abc import Sequence

MAX_ERROR_LENGTH = 1_200  # room for a 2048-bit DKIM key
MAX_LISTED_VALUES = 3
MAX_VALUE_LENGTH = 110
MAX_CHAIN_NAME_LENGTH = 70
MAX_TXT_STRING_LENGTH = 255  # octets (RFC 1035, section 3.3)

ELLIPSIS = "…"


def truncate(text: str, max_length: int) -> str:
    """Return the text, cut to `max_length` characters including an ellipsis."""
    return text if len(text) <= max_length else text[: max_length - 1] + ELLIPSIS


def quote(value: str) -> str:
    r"""Return a value in double quotes, non-printable octets as \DDD (RFC 1035, section 5.1), bounded in length."""
    prefix = value[:MAX_VALUE_LENGTH]  # escaping only lengthens: the rest cannot be shown
    escaped = "".join(_escape(character) for character in prefix)
    if len(escaped) > MAX_VALUE_LENGTH or len(value) > MAX_VALUE_LENGTH:
        escaped = escaped[: MAX_VALUE_LENGTH - 1] + ELLIPSIS
    return f'"{escaped}"'


def quote_strings(value: str) -> str:
    """Return a TXT value as the quoted strings of at most 255 octets to enter in a DNS panel."""
    starts = range(0, max(len(value), 1), MAX_TXT_STRING_LENGTH)
    return " ".join(f'"{value[start : start + MAX_TXT_STRING_LENGTH]}"' for start in starts)


def join_limited(items: Sequence[str], max_items: int = MAX_LISTED_VALUES) -> str:
    """Return the first items separated by commas, and the number of those omitted."""
    shown = ", ".join(items[:max_items])
    return shown if len(items) <= max_items else f"{shown} and {len(items) - max_items} more"


def format_chain(names: Sequence[str]) -> str:
    """Return the names of a CNAME chain separated by arrows; a long chain loses its middle."""
    shown = [truncate(name, MAX_CHAIN_NAME_LENGTH) for name in names]
    if len(shown) > 4:
        shown = [*shown[:2], ELLIPSIS, shown[-1]]
    return " -> ".join(shown)


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    return f"\\{ord(character):03d}"  # values carry octets as Latin-1
