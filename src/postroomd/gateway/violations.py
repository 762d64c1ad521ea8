"""Violations of a request's arguments, collected so that one response lists all of them."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["required", "format", "constraint", "unknown"]

# A body of 1 MiB can hold 100,000 faults, whose response would be many times larger than the request.
MAX_VIOLATIONS = 1000
MAX_NAME_LENGTH = 200


@dataclass(frozen=True)
class Violation:
    """One invalid argument. `argument_name` is a path such as `mailboxes[2].local_part`; it omits the value."""

    argument_name: str
    reason: str
    help_message: str


class Violations:
    """Violations found so far in one request."""

    def __init__(self) -> None:
        self._items: list[Violation] = []

    def add(self, argument_name: str, reason: Reason, help_message: str) -> None:
        """Add a violation; those beyond MAX_VIOLATIONS are dropped."""
        if len(self._items) < MAX_VIOLATIONS:
            self._items.append(Violation(printable(argument_name), reason, help_message))

    def check(self) -> None:
        """Raise InvalidArguments if there is any violation."""
        if self._items:
            raise InvalidArguments(tuple(self._items))


class InvalidArguments(Exception):
    """A request cannot be converted to its message; carries every violation."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__(f"{len(violations)} invalid arguments")
        self.violations = violations


def printable(name: str) -> str:
    """Return a name that the caller sent as valid Unicode of at most MAX_NAME_LENGTH characters."""
    return name[:MAX_NAME_LENGTH].encode("utf-8", "replace").decode("utf-8")
