"""In-memory backoff of failing steps, during which all other steps go on. A restart clears it."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from postroomd.domain.backoff import backoff_delay
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import WORKER_FAILURES
from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.work import RowFailed

FIRST_RETRY, MAX_RETRY = timedelta(seconds=10), timedelta(hours=1)
MAX_FAILED_ROWS = 100  # of one kind: if more rows fail, the fault is not theirs, and the kind backs off

Result = TypeVar("Result")
Step = Callable[[Collection[str]], Awaitable[Result]]
"""A step over the due rows, without those with the given ids."""

log = get_logger()


def report_failure(kind: StepKind, failures: int, **context: str) -> None:
    """Log the exception that is being handled, after so many consecutive failures, and count it."""
    log.exception("step failed", kind=kind, failures=failures, **context)
    WORKER_FAILURES.labels(kind).inc()


@dataclass(frozen=True, slots=True)
class Failure:
    """The number of consecutive failures, and the instant of the next retry."""

    count: int
    retry_at: datetime


class Backoff:
    """Runs steps, and delays the retry of a kind of step or a row that fails, longer with each consecutive failure."""

    def __init__(self) -> None:
        self._kinds: dict[StepKind, Failure] = {}
        self._rows: dict[StepKind, dict[str, Failure]] = {}  # by kind and id

    def pending_retries(self, now: datetime) -> Sequence[datetime]:
        """Return the future retries. What waits for one may be due, and still not be done."""
        failures = [*self._kinds.values(), *(failure for rows in self._rows.values() for failure in rows.values())]
        return [failure.retry_at for failure in failures if failure.retry_at > now]

    async def run(self, kind: StepKind, step: Step[Result], now: datetime) -> Result | None:
        """Run a step and return its result; None if its kind is backing off, or fails. Raises StorageUnavailable.

        If a row fails, the step is run again without it.
        """
        rows = self._rows.setdefault(kind, {})
        _forget_old(self._kinds, now)
        _forget_old(rows, now)
        if kind in self._kinds and self._kinds[kind].retry_at > now:
            return None
        while True:
            try:
                result = await step([row_id for row_id, failure in rows.items() if failure.retry_at > now])
            except StorageUnavailable:
                raise
            except RowFailed as error:
                if sum(failure.retry_at > now for failure in rows.values()) < MAX_FAILED_ROWS:
                    failure = rows[error.row_id] = _next_failure(rows.get(error.row_id), now)
                    report_failure(kind, failure.count, row_id=error.row_id)
                    continue
                self._fail_kind(kind, now)
                return None
            except Exception:
                self._fail_kind(kind, now)
                return None
            if self._kinds.pop(kind, None):
                log.info("steps resumed", kind=kind)
            return result

    def _fail_kind(self, kind: StepKind, now: datetime) -> None:
        failure = self._kinds[kind] = _next_failure(self._kinds.get(kind), now)
        report_failure(kind, failure.count)


Key = TypeVar("Key", bound=str)


def _next_failure(last: Failure | None, now: datetime) -> Failure:
    failures = last.count if last else 0
    return Failure(failures + 1, now + backoff_delay(failures, FIRST_RETRY, MAX_RETRY))


def _forget_old(failures: dict[Key, Failure], now: datetime) -> None:
    """Remove failures whose retry was due long ago: it succeeded, or the work is gone. And those of a later clock."""
    for key in [key for key, failure in failures.items() if abs(failure.retry_at - now) > MAX_RETRY]:
        del failures[key]
