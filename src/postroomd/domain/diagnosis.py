"""What an examination of an installation finds, for `postroom doctor`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Condition(StrEnum):
    """The condition of what was examined, the worst last."""

    OK = "ok"
    WARNING = "warning"  # it works, and needs attention
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. `remedy` is what the operator can do; "" if nothing is wrong."""

    check: str
    condition: Condition
    detail: str
    remedy: str = ""


def worst(findings: Sequence[Finding]) -> Condition:
    """Return the worst condition; OK for none."""
    order = list(Condition)
    return max((finding.condition for finding in findings), key=order.index, default=Condition.OK)
