"""What is wrong in a file that a command reads."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a line of the file, which counts from 1. `field` is a column of CSV, or a path in YAML."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.line), self.field, self.message)))


def number_of(faults: Sequence[Fault]) -> str:
    """Return the number of faults in words, such as `2 faults`."""
    return "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
