"""What came of a scenario."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """How many faults were made, what was seen of them, what did not hold, and what was slower than it must be.

    Speed stands apart: it is the machine's too, and no test of correctness may hang on it.
    """

    count: int = 0
    seen: str = ""
    broken: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)

    def require(self, holds: bool, otherwise: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.broken.append(otherwise)

    def require_speed(self, reached: bool, otherwise: str) -> None:
        """Note what is too slow."""
        if not reached:
            self.slow.append(otherwise)

    @property
    def holds(self) -> bool:
        """Whether everything held that must."""
        return not self.broken and not self.slow
