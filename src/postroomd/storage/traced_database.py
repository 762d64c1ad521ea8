"""A database whose reads, transactions and statements are spans below those of their calls.

It takes the place of `Database` when tracing is on. A read or transaction without a call's span, such as those of the
worker and the lookups of keys, has none.
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.observability.tracing import Span, statement_attributes
from postroomd.storage.compiled import CompiledRead, Rows, Values
from postroomd.storage.database import Change, Database, Result, Transaction
from postroomd.storage.drivers.base import Engines
from postroomd.storage.replica import Replica

_PARENT = "postroom_span"
"""Execution option of a connection: the span below which its statements are."""


class TracedDatabase(Database):
    """A database that starts a span for each read, each attempt of a transaction, and each of their statements."""

    def __init__(self, engines: Engines, *, replica: Replica | None = None, command: CallContext | None = None) -> None:
        super().__init__(engines, replica=replica, command=command)
        traced = [engines, *([replica.engines] if replica else [])]
        for engine in {each.sync_engine for opened in traced for each in (opened.reader, opened.writer)}:
            event.listen(engine, "before_cursor_execute", self._before_execute)
            event.listen(engine, "after_cursor_execute", _after_execute)
            event.listen(engine, "handle_error", _on_error)

    async def read(
        self, work: Transaction[Result], context: CallContext | None = None, *, may_be_stale: bool = False
    ) -> Result:
        """Return the result of `work` in one read transaction. Raises StorageUnavailable."""
        if context is None or context.span is None:
            return await super().read(work, context, may_be_stale=may_be_stale)
        with self._start(context.span, "read transaction") as span:
            return await super().read(_below(span, work), context, may_be_stale=may_be_stale)

    async def fetch(
        self, statement: CompiledRead, values: Values, context: CallContext | None = None, *, may_be_stale: bool = False
    ) -> Rows:
        """Return the rows of a compiled read. Raises StorageUnavailable."""
        if context is None or context.span is None:
            return await super().fetch(statement, values, context, may_be_stale=may_be_stale)
        sql = statement.compiled(self._engines.reader.dialect, None).sql
        name, attributes = statement_attributes(self.driver.name, sql)
        with context.span.client_span(name, attributes):
            return await super().fetch(statement, values, context, may_be_stale=may_be_stale)

    async def _attempt(self, work: Change[Result], context: CallContext | None, begun: Any) -> Result:
        if context is None or context.span is None:
            return await super()._attempt(work, context, begun)
        with self._start(context.span, "transaction") as span:
            return await super()._attempt(_below(span, work), context, begun)

    def _start(self, parent: Span, name: str) -> Span:
        return parent.client_span(name, {"db.system.name": self.driver.name})

    def _before_execute(
        self, connection: Any, _cursor: object, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        parent: Span | None = connection.get_execution_options().get(_PARENT)
        if parent is not None and not statement.startswith("BEGIN"):  # on PostgreSQL, the driver sends it unseen
            name, attributes = statement_attributes(self.driver.name, statement)
            context.postroom_span = parent.client_span(name, attributes)


def _below(span: Span, work: Any) -> Any:
    """Return `work` with its statements below a span."""

    async def traced(connection: AsyncConnection) -> Any:
        return await work(await connection.execution_options(**{_PARENT: span}))

    return traced


def _after_execute(
    _connection: object, _cursor: object, _statement: str, _parameters: object, context: Any, _many: bool
) -> None:
    span: Span | None = getattr(context, "postroom_span", None)
    if span is not None:
        span.end()


def _on_error(failure: Any) -> None:
    span: Span | None = getattr(failure.execution_context, "postroom_span", None)
    if span is not None:
        span.fail(type(failure.original_exception).__name__)
        span.end()
