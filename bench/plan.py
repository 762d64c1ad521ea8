"""How much is measured: sizes, times and counts of a full run, and of a quick one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes in mailboxes, times in seconds."""

    small: int = 1_000
    middle: int = 100_000
    large: int = 1_000_000
    runs: int = 3
    """Of the product and of its floor, in turns."""
    starts: int = 5
    """Of both, in turns, where each run has processes of its own: one of them is up to a tenth faster than another."""
    seconds: float = 4.0
    """Of one run under load."""
    memory_seconds: float = 600.0
    """Of mixed load, while memory is watched."""
    renewals: int = 100_000
    """That fall due at once."""


FULL = Plan()
QUICK = Plan(large=100_000, starts=3, seconds=2.0, memory_seconds=20.0, renewals=5_000)
