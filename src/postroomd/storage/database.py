"""Reads and whole transactions on one database: retried, shielded from cancellation, with the domain's errors."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NoReturn, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from postroomd.domain.context import CallContext, Consistency
from postroomd.domain.errors import PostroomError, SchemaMismatch, StorageUnavailable
from postroomd.domain.tenancy import Scope
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import TRANSACTIONS_RETRIED
from postroomd.storage.audit import audited
from postroomd.storage.compiled import CompiledRead, Rows, Values, via_sqlalchemy
from postroomd.storage.drivers.base import Driver, Engines
from postroomd.storage.failures import (
    is_damaged,
    is_serialization_failure,
    is_unavailable,
    is_unique_violation,
    unwrapped,
)
from postroomd.storage.files import DatabaseFiles
from postroomd.storage.idempotency import Unchanged, result_of, run_idempotently
from postroomd.storage.replica import Replica

Result = TypeVar("Result")
Transaction = Callable[[AsyncConnection], Awaitable[Result]]
Change = Callable[[AsyncConnection], Awaitable[Result | Unchanged[Result]]]

UNIQUE_VIOLATION_ATTEMPTS = 3
RETRY_SECONDS = 10.0  # if the caller sets no deadline

log = get_logger()


class Database:
    """The connections to one database.

    On an engine with row-level security, a transaction of a tenant is also restricted by the database itself. `command`
    is the context of a process that runs one command of the operator.
    """

    def __init__(self, engines: Engines, *, replica: Replica | None = None, command: CallContext | None = None) -> None:
        self._engines = engines
        self._command = command
        self._replica = replica
        self._running: set[asyncio.Task[Any]] = set()
        self._files = DatabaseFiles(engines, self._wait_for_transactions)

    @property
    def driver(self) -> Driver:
        """The engine's driver."""
        return self._engines.driver

    async def read(
        self, work: Transaction[Result], context: CallContext | None = None, *, may_be_stale: bool = False
    ) -> Result:
        """Return the result of `work` in one read transaction. Raises StorageUnavailable.

        A read that may be stale is served by a replica that is fresh enough, unless the caller asks for strong
        consistency.
        """
        scope = context.tenant if context else None
        return await self._serve(lambda engines: _read(engines, work, scope), context, may_be_stale)

    async def fetch(
        self, statement: CompiledRead, values: Values, context: CallContext | None = None, *, may_be_stale: bool = False
    ) -> Rows:
        """Return the rows of a compiled read. Raises StorageUnavailable.

        The organization_id and project_id of the caller's scope are added to the values.
        """
        scope = context.tenant if context else None
        if scope is not None:
            values = {"organization_id": scope.organization_id, "project_id": scope.project_id, **values}
        self._files.require_attached()
        if may_be_stale or (compiled := self._engines.compiled) is None:
            return await self._serve(lambda engines: _fetch(engines, statement, values, scope), context, may_be_stale)
        try:
            return await compiled.fetch(statement, values, for_tenant=scope is not None)
        except Exception as error:
            self._raise_translated(error)

    async def _serve(
        self, read: Callable[[Engines], Awaitable[Result]], context: CallContext | None, may_be_stale: bool
    ) -> Result:
        replica = self._replica
        strong = context is not None and context.consistency is Consistency.STRONG
        if may_be_stale and replica and replica.usable() and not strong:
            try:
                return await read(replica.engines)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                replica.suspend()
        self._files.require_attached()
        try:
            return await read(self._engines)
        except Exception as error:
            self._raise_translated(error)

    async def write(self, work: Change[Result], context: CallContext | None = None) -> Result:
        """Commit one write transaction and return the result of `work`, which may be Unchanged.

        Raises StorageUnavailable.

        The change of an audited call is recorded in the same transaction; `work` then returns what it changed, of a
        type in `storage.audit.RESOURCES`.

        A transaction that has begun runs to its end even if the caller is cancelled, so that a client that disconnects
        cannot leave a connection between two statements; one that still waits for a connection is dropped. A
        transaction that lost to a concurrent one is retried until the deadline.
        """
        self._files.require_writable()
        begun = asyncio.Event()
        task = asyncio.ensure_future(self._transaction(work, context, begun))
        self._running.add(task)
        task.add_done_callback(self._discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun.is_set():
                task.cancel()
            raise

    async def close(self) -> None:
        """Close every connection after its running transaction."""
        await self._files.close()
        await self._wait_for_transactions()
        if self._replica:
            await self._replica.close()
        await self._engines.close()

    async def _transaction(self, work: Change[Result], context: CallContext | None, begun: asyncio.Event) -> Result:
        deadline = context.deadline if context and context.deadline is not None else monotonic() + RETRY_SECONDS
        attempts = AsyncRetrying(
            retry=_is_retryable,
            wait=wait_random_exponential(multiplier=0.005, max=0.5),
            stop=lambda state: monotonic() + state.upcoming_sleep > deadline,
            before_sleep=_report_retry,
            reraise=True,
        )
        try:
            if wait_for_room := self._engines.wait_for_room:
                await wait_for_room()
            recorded = audited(work, context, self._command)
            result: Result = await attempts(self._attempt, recorded, context, begun)
        except Exception as error:
            self._raise_translated(error)
        self._files.written()
        return result

    async def _attempt(self, work: Change[Result], context: CallContext | None, begun: asyncio.Event) -> Result:
        async with self._engines.writer.connect() as connection:
            begun.set()
            async with connection.begin():
                if context is None or context.tenant is None:
                    return result_of(await work(connection))
                await self._engines.driver.enter_tenant(connection, context.tenant)
                return await run_idempotently(connection, context, work)

    async def require_intact_files(self) -> None:
        """Raise StorageUnavailable, with the reason, if the files can't be read now, or after a lasting fault."""
        await self._files.require_intact()

    async def _wait_for_transactions(self) -> None:
        await asyncio.gather(*self._running, return_exceptions=True)

    def _raise_translated(self, error: Exception) -> NoReturn:
        """Raise the domain's error for a driver's, and report what it tells of the files."""
        if (fault := self.driver.fault_of(unwrapped(error))) is None:
            raise_translated(error)
        self._files.report(fault)
        raise StorageUnavailable(reason=fault.cause) from error

    def _discard(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it if the caller is gone


async def _read(engines: Engines, work: Transaction[Result], scope: Scope | None) -> Result:
    async with engines.reader.connect() as connection:
        if scope:
            await engines.driver.enter_tenant(connection, scope)
        return await work(connection)


async def _fetch(engines: Engines, statement: CompiledRead, values: Values, scope: Scope | None) -> Rows:
    if engines.compiled is not None:
        return await engines.compiled.fetch(statement, values, for_tenant=scope is not None)
    return await _read(engines, lambda connection: via_sqlalchemy(connection, statement, values), scope)


def raise_translated(error: Exception) -> NoReturn:
    """Raise the domain's error for a driver's, and any other error unchanged."""
    translation = _translation(error)
    if translation is None:
        raise error
    raise translation from error


def _translation(error: Exception) -> PostroomError | None:
    if is_unavailable(error):
        log.warning("database unavailable", error=type(unwrapped(error)).__name__)
        return StorageUnavailable()
    if is_damaged(error):
        return SchemaMismatch("the file is not an SQLite database, or is damaged")
    return None


def _is_retryable(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        return False
    # A key that still exists after concurrent transactions have committed is a defect, which no retry can mend.
    return is_serialization_failure(error) or (
        is_unique_violation(error) and state.attempt_number < UNIQUE_VIOLATION_ATTEMPTS
    )


def _report_retry(state: RetryCallState) -> None:
    TRANSACTIONS_RETRIED.inc()
    log.info("transaction retried", attempt=state.attempt_number)
