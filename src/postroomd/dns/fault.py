"""Fault found in published records."""

from dataclasses import dataclass

from postroomd.domain.model import RecordStatus


@dataclass(frozen=True, slots=True)
class Fault:
    """Why published records do not satisfy the plan. `problem` is a clause."""

    problem: str
    status: RecordStatus = RecordStatus.INVALID
