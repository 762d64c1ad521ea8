"""Durations as settings and command-line arguments write them: `30d`, `12h`, `15m`, `90s`, or a number of seconds."""

import re
from datetime import timedelta

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}  # seconds
_DURATION = re.compile(r"(\d{1,9})([dhms]?)", re.ASCII)


def parse_duration(text: str | float | timedelta) -> timedelta:
    """`30d`, `12h`, `15m`, `90s` or a number of seconds. Raises ValueError for anything else."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(str(text).strip())
    if not match:
        raise ValueError("a duration is expected, such as 30d, 12h, 15m, or a number of seconds")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2] or "s"])


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this whole number of seconds."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit, length in _UNITS.items() if seconds % length == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
