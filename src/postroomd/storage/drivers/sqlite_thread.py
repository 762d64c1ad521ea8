"""SQLite in a thread of its own, for hot statements: many a hop where there are many to run.

aiosqlite does the same for everything else. What it does around each statement, a partial, three coroutines, two looks
at its logger and a wake-up of the loop, costs as much as to find a row by its key.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any

from postroomd.storage.drivers.pools import Rows

Answer = asyncio.Future[Rows]
Job = tuple[Answer, str, Sequence[Any]]
Outcome = tuple[Answer, Rows | BaseException]


class SqliteThread:
    """A connection in its thread, which runs what is queued in its order. A Line of storage/lines.py.

    A statement whose caller is canceled still runs, before the next one. Outcomes are handed to the event loop
    together, once nothing waits any more.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._opened: Answer = self._loop.create_future()
        self._closed: Answer = self._loop.create_future()
        # As a daemon: an event loop that ended without closing it would not let the process end.
        self._thread = Thread(target=self._run, name="sqlite", daemon=True)

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> "SqliteThread":
        """A new thread, once its connection is open. Raises what `connect` raises there."""
        opened = cls(connect)
        opened._thread.start()
        await opened._opened
        return opened

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement. Raises the sqlite3 module's errors."""
        answer: Answer = self._loop.create_future()
        self._jobs.put((answer, sql, arguments))
        return await answer

    def is_closed(self) -> bool:
        """Whether the thread has been told to end."""
        return self._closed.done()

    async def close(self) -> None:
        """End the thread, once all that is queued has run."""
        self._jobs.put(None)
        await asyncio.shield(self._closed)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:
            self._hand_over([(self._opened, error)])
            return
        self._hand_over([(self._opened, ())])
        outcomes: list[Outcome] = []
        while (job := self._jobs.get()) is not None:
            outcomes.append((job[0], _outcome(connection, job)))
            if self._jobs.empty():
                self._hand_over(outcomes)
                outcomes = []
            del job  # and what it was answered, while there is nothing to do
        connection.close()
        self._hand_over([*outcomes, (self._closed, ())])

    def _hand_over(self, outcomes: list[Outcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(_tell, outcomes)
        except RuntimeError:  # the loop has ended, and whoever waited with it
            self._jobs.put(None)


def _outcome(connection: sqlite3.Connection, job: Job) -> Rows | BaseException:
    _, sql, arguments = job
    try:
        return connection.execute(sql, arguments).fetchall()
    except BaseException as error:  # whatever it is, it belongs to the caller
        return error


def _tell(outcomes: list[Outcome]) -> None:
    for answer, outcome in outcomes:
        if answer.done():  # its caller has gone
            continue
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
