"""Figures: what was measured, what it is held against, and whether the target is met."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Seen = TypeVar("Seen")
Measure = Callable[[], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach."""

    value: float
    at_least: bool

    def met(self, figure: float) -> bool:
        """Whether it does."""
        return figure >= self.value if self.at_least else figure <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


def at_least(value: float) -> Target:
    """So much or more."""
    return Target(value, at_least=True)


def at_most(value: float) -> Target:
    """So much or less."""
    return Target(value, at_least=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. The target is for the ratio; where there is no floor, for the figure itself."""

    what: str
    unit: str = ""
    value: float | None = None
    """None where it could not be measured: the note says why."""
    floor: float | None = None
    target: Target | None = None
    faster: bool = False
    """Whether the ratio says how many times faster than the floor, of two times."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of its floor; with `faster`, the floor as a multiple of it."""
        if not self.value or not self.floor:
            return None
        return self.floor / self.value if self.faster else self.value / self.floor

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing to hold against it."""
        judged = self.ratio if self.floor else self.value
        return None if self.target is None or judged is None else self.target.met(judged)


def compared(
    what: str,
    unit: str,
    values: Sequence[float],
    floors: Sequence[float],
    target: Target | None = None,
    *,
    faster: bool = False,
    note: str = "",
) -> Figure:
    """The medians of several runs of the product and of its floor."""
    value, floor = median(values), median(floors)
    return Figure(what=what, unit=unit, value=value, floor=floor, target=target, faster=faster, note=note)


async def in_turns(runs: int, *measures: Measure[Seen]) -> list[list[Seen]]:
    """What each measure saw, run after run, in turns: what slows the machine down meanwhile slows them all."""
    seen: list[list[Seen]] = [[] for _ in measures]
    for _ in range(runs):
        for measure, into in zip(measures, seen, strict=True):
            into.append(await measure())
    return seen
