"""Blocks of commands in the documentation, which the tests run as they stand."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def block(page: str, containing: str) -> str:
    """Return the only fenced block of a page that contains a text."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found = [text for text in blocks if containing in text]
    assert len(found) == 1, f"{page} has {len(found)} blocks with {containing!r}"
    return str(found[0])
