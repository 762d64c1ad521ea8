"""What is wrong with a request's arguments, gathered so that one answer names it all."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["required", "format", "constraint", "unknown"]

# A body of a mebibyte can hold a hundred thousand faults. Nobody reads so many, and the answer would be larger
# than the request by far.
MOST = 1000
LONGEST_NAME = 200


@dataclass(frozen=True)
class Violation:
    """One fault. `argument_name` is a path such as `mailboxes[2].local_part`; the value at fault is nowhere."""

    argument_name: str
    reason: str
    help_message: str


class Violations:
    """The faults found so far in one request."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, argument_name: str, reason: Reason, help_message: str) -> None:
        """Note a fault; past `MOST` of them, nothing."""
        if len(self._found) < MOST:
            self._found.append(Violation(printable(argument_name), reason, help_message))

    def check(self) -> None:
        """Raise InvalidArguments where there is any fault."""
        if self._found:
            raise InvalidArguments(tuple(self._found))


class InvalidArguments(Exception):
    """The request can't be made into a message; says every reason why."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__(f"{len(violations)} invalid arguments")
        self.violations = violations


def printable(name: str) -> str:
    """Give a caller's own name for something back as valid Unicode of a bounded length."""
    return name[:LONGEST_NAME].encode("utf-8", "replace").decode("utf-8")
