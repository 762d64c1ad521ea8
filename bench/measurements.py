"""Measurements, their baselines and their targets."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")
Measure = Callable[[], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Target:
    """A limit for a ratio, or for a value that has no baseline."""

    limit: float
    is_minimum: bool

    def is_met_by(self, number: float) -> bool:
        """Whether a number is within the limit."""
        return number >= self.limit if self.is_minimum else number <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {self.limit:g}"


def at_least(limit: float) -> Target:
    """Return a target with a minimum."""
    return Target(limit, is_minimum=True)


def at_most(limit: float) -> Target:
    """Return a target with a maximum."""
    return Target(limit, is_minimum=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line of the table. The target applies to the ratio, or to the value if there is no baseline."""

    title: str
    unit: str = ""
    value: float | None = None
    """None if it could not be measured; the note says why."""
    baseline: float | None = None
    target: Target | None = None
    speedup: bool = False
    """Of durations: whether the ratio is baseline / value instead of value / baseline."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of its baseline; with `speedup`, the reverse."""
        if not self.value or not self.baseline:
            return None
        return self.baseline / self.value if self.speedup else self.value / self.baseline

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a value."""
        number = self.ratio if self.baseline else self.value
        return None if self.target is None or number is None else self.target.is_met_by(number)


def compare(
    title: str,
    unit: str,
    values: Sequence[float],
    baselines: Sequence[float],
    target: Target | None = None,
    *,
    speedup: bool = False,
    note: str = "",
) -> Measurement:
    """Return the measurement of the medians of several runs of product and baseline."""
    return Measurement(
        title=title,
        unit=unit,
        value=median(values),
        baseline=median(baselines),
        target=target,
        speedup=speedup,
        note=note,
    )


async def alternate(runs: int, *measures: Measure[T]) -> list[list[T]]:
    """Run the measures in turn, `runs` times each, so that a slow period of the machine affects all of them alike.

    Returns the results of each measure.
    """
    results: list[list[T]] = [[] for _ in measures]
    for _ in range(runs):
        for measure, own_results in zip(measures, results, strict=True):
            own_results.append(await measure())
    return results
