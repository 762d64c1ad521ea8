"""docs/compatibility.md, checked against the facts and the settings."""

import re
from pathlib import Path

from postroomd.settings import Settings
from tests.compatibility.deviations import DEVIATIONS
from tests.compatibility.recording import AS_THE_PUBLIC_SERVICE

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"


def rows_below(heading: str) -> list[list[str]]:
    """Return the cells of the rows of the table below a heading of the document."""
    section = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_every_deviation_is_documented_and_true() -> None:
    documented = {subject for subject, *_ in rows_below("Different on purpose")}
    assert documented == {fact.deviation for fact in DEVIATIONS}


def test_every_setting_that_decides_is_documented_with_its_default() -> None:
    for subject, _, names, defaults in rows_below("Settings that decide"):
        flags = re.findall(r"`--([a-z-]+)", names)
        assert flags, subject
        for flag in flags:
            assert flag.replace("-", "_") in Settings.model_fields, flag
        stated = re.findall(r"[\w=.@-]+", defaults)
        if len(stated) != len(flags):
            continue  # a text that describes several
        for flag, text in zip(flags, stated, strict=True):
            assert shown(Settings.model_fields[flag.replace("-", "_")].default) == text, flag


def shown(default: object) -> str:
    """Return a default as the document states it."""
    days = getattr(default, "days", None)
    return f"{days}d" if days else "off" if default == 0 else str(default)


def test_the_recording_uses_every_setting_that_decides_but_the_cancellations() -> None:
    documented = {
        flag for _, _, names, _ in rows_below("Settings that decide") for flag in re.findall(r"`--([a-z-]+)", names)
    }
    assert documented - set(AS_THE_PUBLIC_SERVICE) == {"cancellation-retention"}
