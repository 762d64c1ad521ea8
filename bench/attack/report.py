"""What the victim experienced, beside the control."""

from collections.abc import Mapping
from dataclasses import dataclass

MAX_LOST = 0.01
MAX_P99_RATIO = 3.0


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


def is_within_target(attacked: Experience, control: Experience) -> bool:
    """Whether at most 1 % of the calls were lost, and the p99 is at most three times that of the control."""
    return attacked.lost <= MAX_LOST * attacked.calls and attacked.p99_ms <= MAX_P99_RATIO * control.p99_ms


def line(name: str, attacked: Experience, control: Experience) -> str:
    """Return one line: losses, latency as a ratio to the control, memory, and whether the target is met."""
    failures = ", ".join(f"{outcome} {count}" for outcome, count in attacked.outcomes.items() if outcome != "OK")
    ratio = attacked.p99_ms / control.p99_ms if control.p99_ms else float("inf")
    verdict = "ok  " if is_within_target(attacked, control) else "MISS"
    return (
        f"{verdict} {name:32} lost {attacked.lost:4} of {attacked.calls}"
        f" (control {control.lost}), p99 {ratio:6.1f} x control, service {attacked.service_mb:.0f} MB,"
        f" gateway {attacked.gateway_mb:.0f} MB{f' [{failures}]' if failures else ''}"
    )
