"""Tag lists of DKIM and DMARC records (RFC 6376, section 3.2)."""

from collections.abc import Iterator

_WHITE_SPACE = " \t\r\n"


def parse_tags(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each tag in order; parts without `=` are skipped."""
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            yield name.strip(_WHITE_SPACE), value.strip(_WHITE_SPACE)
