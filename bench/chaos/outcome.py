"""The outcome of a scenario."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """The number of injected faults, a summary, violated requirements, and missed performance limits.

    Performance is separate, because it depends on the machine: the tests check correctness only.
    """

    count: int = 0
    summary: str = ""
    violations: list[str] = field(default_factory=list)
    too_slow: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    def require(self, condition: bool, violation: str) -> None:
        """Record a violation unless the condition is true."""
        if not condition:
            self.violations.append(violation)

    def require_speed(self, condition: bool, violation: str) -> None:
        """Record a missed performance limit unless the condition is true."""
        if not condition:
            self.too_slow.append(violation)

    @property
    def passed(self) -> bool:
        """Whether there are no violations and no missed limits."""
        return not self.violations and not self.too_slow
