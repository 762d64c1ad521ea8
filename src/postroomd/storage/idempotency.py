"""Idempotency keys: a call repeated under its key returns the first response and has no second effect.

The response is stored in the transaction of its effect, so that either both are committed or neither. A failed call has
had no effect and stores nothing: repeating it tries again. Of two concurrent calls the second violates the primary key,
is rolled back and retried, and then finds the response of the first.

A call that changed nothing, and whose response can be read again, stores its key and digest with an empty response.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext, Idempotency, Replayed
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.usage import require_responses_within

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Unchanged(Generic[Result]):
    """The result of a transaction that has changed nothing."""

    result: Result


async def run_idempotently(
    connection: AsyncConnection,
    context: CallContext,
    work: Callable[[AsyncConnection], Awaitable[Result | Unchanged[Result]]],
) -> Result:
    """Return the result of `work`, after storing its response under the call's idempotency key if it has one.

    `work` may return its result as Unchanged. Raises Replayed if the call was committed before, InvalidArguments if its
    key was used for another request, QuotaExceeded if the organization has too many responses.
    """
    request = context.idempotency
    if request is None:
        return result_of(await work(connection))
    scope = context.scope
    has_expired = await _require_unused(connection, scope, request)
    returned = await work(connection)
    result = result_of(returned)
    if has_expired:  # and the worker has not removed it yet
        expired = t.idempotency_keys.c.expires_at <= request.now
        await connection.execute(delete(t.idempotency_keys).where(*_row_filter(scope, request), expired))
    answer = b"" if request.rereads and isinstance(returned, Unchanged) else request.encode(result)
    stored = {
        "organization_id": scope.organization_id,
        "project_scope": scope.project_id or "",
        "key": request.key,
        "digest": request.digest,
        "answer": answer,
        "expires_at": request.expires_at,
    }
    await connection.execute(insert(t.idempotency_keys).values(stored))
    await require_responses_within(
        connection,
        scope.organization_id,
        request.quotas.responses,
        request.quotas.response_octets,
        len(request.key) + len(request.digest) + len(answer),
    )
    return result


async def require_unused(connection: AsyncConnection, scope: Scope, request: Idempotency) -> None:
    """Raise Replayed, or InvalidArguments, if the key has been used."""
    await _require_unused(connection, scope, request)


def result_of(returned: Result | Unchanged[Result]) -> Result:
    """Return the result of a transaction, whether it has changed anything or not."""
    return returned.result if isinstance(returned, Unchanged) else returned


async def _require_unused(connection: AsyncConnection, scope: Scope, request: Idempotency) -> bool:
    """Raise Replayed, or InvalidArguments, if the key has been used. Returns whether it has an expired response."""
    columns = t.idempotency_keys.c
    query = select(columns.digest, columns.answer, columns.expires_at).where(*_row_filter(scope, request))
    found = (await connection.execute(query)).one_or_none()
    if found is None or found.expires_at <= request.now:
        return found is not None
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
