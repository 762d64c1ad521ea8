"""Idempotency keys: a call repeated under its key returns the first response and has no second effect.

The response is stored in the transaction of its effect, so that either both are committed or neither. A failed call has
had no effect and stores nothing: repeating it tries again. Of two concurrent calls the second violates the primary key,
is rolled back and retried, and then finds the response of the first.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext, Idempotency, Replayed
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t

Result = TypeVar("Result")


async def run_idempotently(
    connection: AsyncConnection, context: CallContext, work: Callable[[AsyncConnection], Awaitable[Result]]
) -> Result:
    """Return the result of `work`, after storing its response under the call's idempotency key if it has one.

    Raises Replayed if the call was committed before, InvalidArguments if its key was used for another request.
    """
    request = context.idempotency
    if request is None:
        return await work(connection)
    scope = context.scope
    await require_unused(connection, scope, request)
    result = await work(connection)
    # An expired response that the worker has not removed yet.
    expired = t.idempotency_keys.c.expires_at <= request.now
    await connection.execute(delete(t.idempotency_keys).where(*_row_filter(scope, request), expired))
    stored = {
        "organization_id": scope.organization_id,
        "project_scope": scope.project_id or "",
        "key": request.key,
        "digest": request.digest,
        "answer": request.encode(result),
        "expires_at": request.expires_at,
    }
    await connection.execute(insert(t.idempotency_keys).values(stored))
    return result


async def require_unused(connection: AsyncConnection, scope: Scope, request: Idempotency) -> None:
    """Raise Replayed, or InvalidArguments, if the key has been used."""
    query = select(t.idempotency_keys.c.digest, t.idempotency_keys.c.answer).where(
        *_row_filter(scope, request), t.idempotency_keys.c.expires_at > request.now
    )
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        return
    if found.digest != request.digest:
        message = "this key was used for another request: send each request with a key of its own"
        raise InvalidArguments([Violation("idempotency-key", Reason.CONSTRAINT, message)])
    raise Replayed(found.answer)


def _row_filter(scope: Scope, request: Idempotency) -> tuple[ColumnElement[bool], ...]:
    return (
        t.idempotency_keys.c.organization_id == scope.organization_id,
        t.idempotency_keys.c.project_scope == (scope.project_id or ""),
        t.idempotency_keys.c.key == request.key,
    )
