"""What is wrong in a file that a command reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from postroomd.cli.exit_codes import ExitCode


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a line of the file, which counts from 1. `field` is a column of CSV, or a path in YAML."""

    line: int
    field: str
    message: str
    code: ExitCode = ExitCode.USAGE
    """The exit code that the fault alone has: of a call that failed, that of its error."""

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.line), self.field, self.message)))


def code_of_failures(codes: Iterable[ExitCode | None]) -> ExitCode:
    """Return the exit code of a command of which a part has failed, from those of the failures.

    A key that lacks a permission, or a service that can't be reached, is reported if it is the cause of all failures.
    None is that of a consequence of another failure.
    """
    causes = set(codes) - {None}
    for code in (ExitCode.DENIED, ExitCode.UNAVAILABLE):
        if causes == {code}:
            return code
    return ExitCode.FAILURE


def number_of(faults: Sequence[Fault]) -> str:
    """Return the number of faults in words, such as `2 faults`."""
    return "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
