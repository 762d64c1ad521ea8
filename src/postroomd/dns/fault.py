"""Fault found in published records."""

from dataclasses import dataclass

from postroomd.domain.model import RecordStatus


@dataclass(frozen=True, slots=True)
class Fault:
    """Why published records differ from the plan; with status VALID, a warning that does not block the domain.

    `problem` is a clause. `values` are the published values it refers to, by default all of them.
    """

    problem: str
    status: RecordStatus = RecordStatus.INVALID
    values: tuple[str, ...] | None = None


def missing(problem: str) -> Fault:
    """Return the fault of a name whose records are all of another kind."""
    return Fault(problem, RecordStatus.NOT_FOUND)


def warning(problem: str, *values: str) -> Fault:
    """Return a fault that leaves the record valid."""
    return Fault(problem, RecordStatus.VALID, values)
