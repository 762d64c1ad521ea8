"""What the victim experienced, beside the control, as rows of a Markdown table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_LOST = 0.01
MAX_P99_RATIO = 3.0

COLUMNS = ("scenario", "engine", "lost", "control lost", "p99", "service MB", "gateway MB", "failures", "target")


@dataclass(frozen=True)
class Experience:
    """The victim's calls of one run, and the highest resident memory of service and gateway in MB."""

    outcomes: Mapping[str, int]
    p50_ms: float
    p99_ms: float
    service_mb: float
    gateway_mb: float

    @property
    def calls(self) -> int:
        """The number of calls."""
        return sum(self.outcomes.values())

    @property
    def lost(self) -> int:
        """The number of calls that failed."""
        return self.calls - self.outcomes.get("OK", 0)


@dataclass(frozen=True)
class Comparison:
    """One scenario on one engine: the victim's experience under attack, and with the control."""

    scenario: str
    engine: str
    attacked: Experience
    control: Experience

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the same measurement of another run."""
        return self.scenario, self.engine

    @property
    def p99_ratio(self) -> float:
        """The p99 under attack as a multiple of that with the control."""
        return self.attacked.p99_ms / self.control.p99_ms if self.control.p99_ms else float("inf")

    @property
    def is_within_target(self) -> bool:
        """Whether at most 1 % of the calls were lost, and the p99 is at most three times that of the control."""
        return self.attacked.lost <= MAX_LOST * self.attacked.calls and self.p99_ratio <= MAX_P99_RATIO

    def to_json(self) -> dict[str, Any]:
        """Return the measured values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Comparison":
        """Return the comparison with these values. Raises TypeError, and KeyError for a missing experience."""
        runs = {run: Experience(**values[run]) for run in ("attacked", "control")}
        return cls(**{**values, **runs})


def header() -> str:
    """Return the two lines above the rows."""
    return f"{_row(COLUMNS)}\n{_row(['---'] * len(COLUMNS))}"


def row(measured: Comparison, before: Comparison | None = None) -> str:
    """Return one row: losses, p99 as a multiple of the control's, memory; each after that of `before`, if any."""

    def cell(value: str, earlier: str | None) -> str:
        return value if earlier is None else f"{earlier} → {value}"

    runs = [_cells(each) for each in (measured, before) if each is not None]
    changing = [cell(value, runs[1][name] if before else None) for name, value in runs[0].items()]
    return _row([measured.scenario, measured.engine, *changing, "met" if measured.is_within_target else "missed"])


def _cells(measured: Comparison) -> dict[str, str]:
    attacked, control = measured.attacked, measured.control
    failures = ", ".join(f"{outcome} {count}" for outcome, count in attacked.outcomes.items() if outcome != "OK")
    return {
        "lost": f"{attacked.lost} of {attacked.calls}",
        "control lost": str(control.lost),
        "p99": f"{measured.p99_ratio:.1f} x",
        "service MB": f"{attacked.service_mb:.0f}",
        "gateway MB": f"{attacked.gateway_mb:.0f}",
        "failures": failures or "none",
    }


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
