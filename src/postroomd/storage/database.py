"""From a URL to a database: whole transactions, retried and shielded, and the driver's errors as the domain's."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, NoReturn, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from postroomd.domain.context import CallContext, Consistency
from postroomd.domain.errors import PostroomError, SchemaMismatch, StorageUnavailable
from postroomd.domain.tenancy import Scope
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import TRANSACTIONS_RETRIED
from postroomd.storage.compiled import CompiledRead, Values, via_sqlalchemy
from postroomd.storage.drivers.engines import Engines, checkpoint, enter_tenant
from postroomd.storage.drivers.pools import Rows
from postroomd.storage.failures import is_no_database, is_out_of_reach, is_serialization_failure, is_unique_violation
from postroomd.storage.idempotency import run_idempotently
from postroomd.storage.replica import Replica

Result = TypeVar("Result")
Transaction = Callable[[AsyncConnection], Awaitable[Result]]

CHECKPOINT_SECONDS = 5.0
KEY_TAKEN_ATTEMPTS = 3
RETRY_SECONDS = 10.0  # where the caller names no deadline

log = get_logger()


class Database:
    """The connections to one database, and whole transactions over them.

    A transaction with a scope is kept inside that organization by PostgreSQL as well (row-level security).
    """

    def __init__(self, engines: Engines, *, keeps_log_short: bool, replica: Replica | None = None) -> None:
        self._engines = engines
        self._replica = replica
        self._running: set[asyncio.Task[Any]] = set()
        self._checkpoints = asyncio.create_task(self._keep_log_short()) if keeps_log_short else None

    @property
    def dialect(self) -> str:
        """The engine's name, as SQLAlchemy has it."""
        return self._engines.reader.dialect.name

    async def read(
        self, work: Transaction[Result], context: CallContext | None = None, *, may_be_stale: bool = False
    ) -> Result:
        """What `work` answers inside one read transaction. Raises StorageUnavailable.

        A read that may be stale is served by the replica, where there is one that is fresh enough and the caller has
        not refused it.
        """
        scope = context.tenant if context else None
        return await self._served(lambda engines: _read(engines.reader, work, scope), context, may_be_stale)

    async def fetch(
        self, statement: CompiledRead, values: Values, context: CallContext | None = None, *, may_be_stale: bool = False
    ) -> Rows:
        """The rows of a hot statement: a read of that statement alone. Raises StorageUnavailable.

        The values of a statement with a scope have the scope's organization_id and project_id too.
        """
        scope = context.tenant if context else None
        if scope is not None:
            values = {"organization_id": scope.organization_id, "project_id": scope.project_id, **values}
        if may_be_stale or (hot := self._engines.hot) is None:
            return await self._served(lambda engines: _fetch(engines, statement, values, scope), context, may_be_stale)
        try:
            return await hot.fetch(statement, values, for_tenant=scope is not None)
        except Exception as error:
            raise_translated(error)

    async def _served(
        self, reading: Callable[[Engines], Awaitable[Result]], context: CallContext | None, may_be_stale: bool
    ) -> Result:
        replica = self._replica
        strong = context is not None and context.consistency is Consistency.STRONG
        if may_be_stale and replica and replica.usable() and not strong:
            try:
                return await reading(replica.engines)
            except Exception as error:
                if not is_out_of_reach(error):
                    raise
                replica.lost()
        try:
            return await reading(self._engines)
        except Exception as error:
            raise_translated(error)

    async def write(self, work: Transaction[Result], context: CallContext | None = None) -> Result:
        """What `work` answers inside one write transaction, committed. Raises StorageUnavailable.

        A transaction that has begun runs to its end even when the caller is canceled: a client that hangs up can't
        leave a connection between two statements. One that still waits for a connection is dropped then, and keeps
        nobody else waiting. One that lost to another is run again, until the deadline.
        """
        begun = asyncio.Event()
        task = asyncio.ensure_future(self._transaction(work, context, begun))
        self._running.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun.is_set():
                task.cancel()
            raise

    async def close(self) -> None:
        """Let running transactions finish, then close every connection."""
        if self._checkpoints:
            self._checkpoints.cancel()
            await asyncio.gather(self._checkpoints, return_exceptions=True)  # it may hold a connection
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._replica:
            await self._replica.close()
        await self._engines.close()

    async def _transaction(
        self, work: Transaction[Result], context: CallContext | None, begun: asyncio.Event
    ) -> Result:
        deadline = context.deadline if context and context.deadline is not None else monotonic() + RETRY_SECONDS
        attempts = AsyncRetrying(
            retry=_may_end_otherwise,
            wait=wait_random_exponential(multiplier=0.005, max=0.5),
            stop=lambda state: monotonic() + state.upcoming_sleep > deadline,
            before_sleep=_note_retry,
            reraise=True,
        )
        try:
            return await attempts(self._attempt, work, context, begun)
        except Exception as error:
            raise_translated(error)

    async def _attempt(self, work: Transaction[Result], context: CallContext | None, begun: asyncio.Event) -> Result:
        async with self._engines.writer.connect() as connection:
            begun.set()
            async with connection.begin():
                if context is None or context.tenant is None:
                    return await work(connection)
                await enter_tenant(connection, context.tenant)
                return await run_idempotently(connection, context, work)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not complain where the caller has gone

    async def _keep_log_short(self) -> None:
        """Checkpoint what other processes wrote, since only this one may."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            try:
                await checkpoint(self._engines.writer)
            except Exception as error:  # whatever it is, the next one may succeed
                log.warning("checkpoint failed", error=type(error).__name__)


async def _read(engine: AsyncEngine, work: Transaction[Result], scope: Scope | None) -> Result:
    async with engine.connect() as connection:
        if scope:
            await enter_tenant(connection, scope)
        return await work(connection)


async def _fetch(engines: Engines, statement: CompiledRead, values: Values, scope: Scope | None) -> Rows:
    if engines.hot is not None:
        return await engines.hot.fetch(statement, values, for_tenant=scope is not None)
    return await _read(engines.reader, lambda connection: via_sqlalchemy(connection, statement, values), scope)


def raise_translated(error: Exception) -> NoReturn:
    """Raise the domain's error for a driver's, and any other error as it is."""
    translation = _translation(error)
    if translation is None:
        raise error
    raise translation from error


def _translation(error: Exception) -> PostroomError | None:
    if is_out_of_reach(error):
        log.warning("database out of reach", error=type(getattr(error, "orig", None) or error).__name__)
        return StorageUnavailable()
    if is_no_database(error):
        return SchemaMismatch("the file is no SQLite database, or a damaged one")
    return None


def _may_end_otherwise(state: RetryCallState) -> bool:
    """Whether a failed transaction, run again from its start, can come to another end."""
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        return False
    # A key that is still taken once the others have committed is a fault of ours, which no attempt will mend.
    return is_serialization_failure(error) or (is_unique_violation(error) and state.attempt_number < KEY_TAKEN_ATTEMPTS)


def _note_retry(state: RetryCallState) -> None:
    TRANSACTIONS_RETRIED.inc()
    log.info("transaction begun again", attempt=state.attempt_number)
