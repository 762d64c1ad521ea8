"""Text about what others have published: it is not trusted, and so made printable and bounded."""

from collections.abc import Sequence

MOST_CHARACTERS = 500  # of a whole error
MOST_VALUES = 3
VALUE_CHARACTERS = 110

ELLIPSIS = "…"


def cut(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis: at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + ELLIPSIS


def quoted(value: str) -> str:
    r"""A value in quotes as a zone file would have it, bounded: what is not printable ASCII is \DDD (RFC 1035, 5.1)."""
    beginning = value[:VALUE_CHARACTERS]  # no more than this can be shown: the rest need not be looked at
    escaped = "".join(_escaped(character) for character in beginning)
    if len(escaped) > VALUE_CHARACTERS or len(value) > VALUE_CHARACTERS:
        escaped = escaped[: VALUE_CHARACTERS - 1] + ELLIPSIS
    return f'"{escaped}"'


def listed(values: Sequence[str], most: int = MOST_VALUES) -> str:
    """The first few of some texts, and how many more there are."""
    shown = ", ".join(values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"


def arrows(names: Sequence[str]) -> str:
    """Names that lead from one to the next."""
    shown = [cut(name, 70) for name in names]
    if len(shown) > 4:
        shown = [*shown[:2], ELLIPSIS, shown[-1]]
    return " -> ".join(shown)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    return f"\\{ord(character):03d}"  # values carry octets as Latin-1
