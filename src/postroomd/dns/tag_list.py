"""Tag lists of DKIM and DMARC records (RFC 6376, section 3.2)."""

import re
from dataclasses import dataclass

_WHITE_SPACE = " \t\r\n"
_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class TagList:
    """The tags of a record in order, and the first part that is not a tag, if any."""

    tags: tuple[tuple[str, str], ...]
    malformed: str | None

    def get(self, name: str, default: str = "") -> str:
        """Return the value of the first tag of a name."""
        return next((value for tag, value in self.tags if tag == name), default)

    @property
    def names(self) -> list[str]:
        """The tag names in order, duplicates included."""
        return [name for name, _ in self.tags]


def parse_tags(text: str) -> TagList:
    """Parse a tag list; a trailing semicolon is allowed."""
    tags: list[tuple[str, str]] = []
    malformed = None
    parts = text.split(";")
    if not parts[-1].strip(_WHITE_SPACE):
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and _TAG_NAME.fullmatch(name.strip(_WHITE_SPACE)):
            tags.append((name.strip(_WHITE_SPACE), value.strip(_WHITE_SPACE)))
        elif malformed is None:
            malformed = part.strip(_WHITE_SPACE)
    return TagList(tuple(tags), malformed)
