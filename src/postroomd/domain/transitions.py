"""Transition tables: their form, and the check of a transition against its table.

Each resource has one table, in the module of its rules. A rule takes a frozen value and the time, and returns the value
as it should become, or the same object if nothing changes; it raises if the value's state forbids the change. The
storage applies rules inside a transaction.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

Event = TypeVar("Event", bound=StrEnum)
Status = TypeVar("Status", bound=StrEnum)

TransitionTable: TypeAlias = Mapping[Event, Mapping[Status | None, frozenset[Status | None]]]
"""Event -> status -> the possible next statuses. A pair that is absent is no transition.

None is the absence of the resource: before its creation, or after its purge.
"""


class IllegalTransition(Exception):
    """A change of status that is not in its resource's table: a bug in a rule."""


def check_transition(
    table: TransitionTable[Any, Any], event: StrEnum, before: StrEnum | None, after: StrEnum | None
) -> None:
    """Raise IllegalTransition if the table has no transition between two statuses by an event."""
    if after not in table[event].get(before, ()):
        raise IllegalTransition(f"{event}: no transition from {before} to {after}")
