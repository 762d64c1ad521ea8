"""An SQLite connection in a thread of its own, for compiled reads.

aiosqlite serves everything else. Its overhead per statement, a partial, three coroutines, two logger checks and a
wake-up of the event loop, costs as much as finding a row by its key; here several queued statements share one wake-up.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any

from postroomd.storage.compiled import Rows

Result = asyncio.Future[Rows]
Job = tuple[Result, str, Sequence[Any]]
Outcome = tuple[Result, Rows | BaseException]


class SqliteThread:
    """A connection in its thread, which runs queued statements in order. A PooledConnection.

    A statement whose caller is cancelled still runs, before the next one. Outcomes are handed to the event loop in
    batches, whenever the queue is empty.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._opened: Result = self._loop.create_future()
        self._closed: Result = self._loop.create_future()
        # As a daemon: an event loop that ended without closing the thread would keep the process from exiting.
        self._thread = Thread(target=self._run, name="sqlite", daemon=True)

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> "SqliteThread":
        """Start a thread and wait for its connection. Raises what `connect` raises in it."""
        opened = cls(connect)
        opened._thread.start()
        await opened._opened
        return opened

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Return all rows of a statement. Raises errors of the sqlite3 module."""
        result: Result = self._loop.create_future()
        self._jobs.put((result, sql, arguments))
        return await result

    def is_closed(self) -> bool:
        """Return whether the thread has ended."""
        return self._closed.done()

    async def close(self) -> None:
        """End the thread after its queued statements."""
        self._jobs.put(None)
        await asyncio.shield(self._closed)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:
            self._deliver([(self._opened, error)])
            return
        self._deliver([(self._opened, ())])
        outcomes: list[Outcome] = []
        while (job := self._jobs.get()) is not None:
            outcomes.append((job[0], _execute(connection, job)))
            if self._jobs.empty():
                self._deliver(outcomes)
                outcomes = []
            del job  # frees the rows while the thread waits
        connection.close()
        self._deliver([*outcomes, (self._closed, ())])

    def _deliver(self, outcomes: list[Outcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:  # the loop is closed, and every caller gone with it
            self._jobs.put(None)


def _execute(connection: sqlite3.Connection, job: Job) -> Rows | BaseException:
    _, sql, arguments = job
    try:
        return connection.execute(sql, arguments).fetchall()
    except BaseException as error:  # of any kind: it belongs to the caller
        return error


def _resolve(outcomes: list[Outcome]) -> None:
    for result, outcome in outcomes:
        if result.done():  # its caller was cancelled
            continue
        if isinstance(outcome, BaseException):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)
