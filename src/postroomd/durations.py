"""Durations in settings and command-line arguments: `30d`, `12h`, `15m`, `90s`, or a number of seconds."""

import re
from datetime import timedelta

_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d{1,9})([dhms]?)", re.ASCII)


def parse_duration(text: str | float | timedelta) -> timedelta:
    """Return the duration of `30d`, `12h`, `15m`, `90s` or a number of seconds. Raises ValueError otherwise."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(str(text).strip())
    if not match:
        raise ValueError("expected a duration, such as 30d, 12h, 15m, or a number of seconds")
    return timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2] or "s"])


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads as this duration, which is a whole number of seconds."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit, length in _UNIT_SECONDS.items() if seconds % length == 0)
    return f"{seconds // _UNIT_SECONDS[unit]}{unit}"
