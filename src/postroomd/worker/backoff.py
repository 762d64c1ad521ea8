"""What a worker lets rest: a kind of step that has failed, or one row of it, while it goes on with all else.

It is kept in memory. Another worker, or this one started anew, tries everything at once.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.storage.protocols.work import RowFailed

FIRST_RETRY, LAST_RETRY = timedelta(seconds=10), timedelta(hours=1)
MOST_ROWS = 100  # of a kind that rest by themselves: where more fail, it is no fault of the rows

Result = TypeVar("Result")
Step = Callable[[Collection[str]], Awaitable[Result]]
"""Takes a step that passes over the rows with these ids."""

log = get_logger()


def retry_after(failures: int) -> timedelta:
    """How long rests what has failed once more after so many failures: ever longer."""
    return min(FIRST_RETRY * (1 << min(failures, 16)), LAST_RETRY)


@dataclass(frozen=True, slots=True)
class Rest:
    """How often something has failed in a row, and until when it is left alone."""

    failures: int
    until: datetime


class Rests:
    """Takes steps, each kind apart from the others: what fails unexpectedly is logged, and rests ever longer."""

    def __init__(self, told: Callable[[str], None] = lambda _: None) -> None:
        self._told = told  # of each failure, by its kind
        self._kinds: dict[str, Rest] = {}
        self._rows: dict[str, dict[str, Rest]] = {}  # by kind and id

    def ends(self, now: datetime) -> Sequence[datetime]:
        """When each thing that rests is tried again: until then it may be due, and yet not done."""
        kept = (rest.until for rests in (self._kinds, *self._rows.values()) for rest in rests.values())
        return [until for until in kept if until > now]

    async def take(self, kind: str, step: Step[Result], now: datetime) -> Result | None:
        """What a step of a kind answers; None where the kind rests, or has failed. Raises StorageUnavailable.

        Where a row has failed, the step is taken again without it.
        """
        rows = self._rows.setdefault(kind, {})
        for kept in (self._kinds, rows):
            for key in [key for key, rest in kept.items() if rest.until + LAST_RETRY < now]:
                del kept[key]  # it has been tried since, or there was no need
        if kind in self._kinds and self._kinds[kind].until > now:
            return None
        while True:
            try:
                answer = await step([row_id for row_id, rest in rows.items() if rest.until > now])
            except StorageUnavailable:
                raise
            except RowFailed as failure:
                if sum(rest.until > now for rest in rows.values()) < MOST_ROWS:
                    self._rest(rows, failure.row_id, now, kind=kind, row_id=failure.row_id)
                    continue
                self._rest(self._kinds, kind, now, kind=kind)
                return None
            except Exception:
                self._rest(self._kinds, kind, now, kind=kind)
                return None
            if self._kinds.pop(kind, None):
                log.info("steps are taken again", kind=kind)
            return answer

    def _rest(self, kept: dict[str, Rest], key: str, now: datetime, *, kind: str, **about: str) -> None:
        """Log the failure that is being handled, and let what has failed rest."""
        failures = kept[key].failures if key in kept else 0
        kept[key] = Rest(failures + 1, now + retry_after(failures))
        log.exception("step failed", kind=kind, failures=failures + 1, **about)
        self._told(kind)
