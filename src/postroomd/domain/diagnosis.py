"""What an examination of an installation finds, for `postroom doctor`."""

from collections.abc import Mapping, Sequence
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


MAX_NAMED = 20  # domains with a faulty record


def faulty_domains(faults: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Return a finding for each domain whose required records are faulty, by its name: the first ones are named."""
    findings = [
        Finding(
            check=f"dns of {name}",
            condition=Condition.WARNING,
            detail=", ".join(faults[name]),
            remedy="correct the record: `postroom domains show` has its value and the fault",
        )
        for name in list(faults)[:MAX_NAMED]
    ]
    if len(faults) > MAX_NAMED:
        findings.append(
            Finding(
                check="dns",
                condition=Condition.WARNING,
                detail=f"{len(faults) - MAX_NAMED} more domains have faulty required records",
                remedy="correct those that are named first",
            )
        )
    return findings


def worst(findings: Sequence[Finding]) -> Condition:
    """Return the worst condition; OK for none."""
    order = list(Condition)
    return max((finding.condition for finding in findings), key=order.index, default=Condition.OK)
