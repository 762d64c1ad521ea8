"""One effect a key: a caller that repeats a call under its idempotency key is answered by the first outcome.

The answer is stored in the transaction of its effect, so that there is either both or neither. A call that failed has
had no effect and leaves no answer: repeating it tries again. Of two at once, the second finds the key taken, is
rolled back and run again, and then finds the first one's answer.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Once:
    """The key of the call under way, a digest of its request, and how its result is told.

    `answer` gives the octets of the response to a result; they are kept until `expires_at`.
    """

    key: str
    digest: bytes
    answer: Callable[[Any], bytes]
    expires_at: datetime
    now: datetime


class Replayed(Exception):
    """The call has been done before: `answer` is what it was answered then."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("the call has been done before")
        self.answer = answer


ONCE: ContextVar[Once | None] = ContextVar("once", default=None)
"""Set while a call under an idempotency key is handled. Such a call makes one scoped write."""


async def applied(
    connection: AsyncConnection, scope: Scope, work: Callable[[AsyncConnection], Awaitable[Result]]
) -> Result:
    """What `work` answers, with its answer stored under the call's key where it has one.

    Raises Replayed where the call has been done before, InvalidArguments where its key was used for another request.
    """
    once = ONCE.get()
    if once is None:
        return await work(connection)
    await require_unused(connection, scope, once)
    result = await work(connection)
    # An answer that has expired and is not swept yet makes room.
    expired = t.idempotency_keys.c.expires_at <= once.now
    await connection.execute(delete(t.idempotency_keys).where(*_this(scope, once), expired))
    stored = {
        "organization_id": scope.organization_id,
        "project_scope": scope.project_id or "",
        "key": once.key,
        "digest": once.digest,
        "answer": once.answer(result),
        "expires_at": once.expires_at,
    }
    await connection.execute(insert(t.idempotency_keys).values(stored))
    return result


async def require_unused(connection: AsyncConnection, scope: Scope, once: Once) -> None:
    """Raise Replayed, or InvalidArguments, where the key has been used."""
    finding = select(t.idempotency_keys.c.digest, t.idempotency_keys.c.answer).where(
        *_this(scope, once), t.idempotency_keys.c.expires_at > once.now
    )
    found = (await connection.execute(finding)).one_or_none()
    if found is None:
        return
    if found.digest != once.digest:
        message = "this key was used for another request: each needs a key of its own"
        raise InvalidArguments([Violation("idempotency-key", Reason.CONSTRAINT, message)])
    raise Replayed(found.answer)


def _this(scope: Scope, once: Once) -> tuple[ColumnElement[bool], ...]:
    return (
        t.idempotency_keys.c.organization_id == scope.organization_id,
        t.idempotency_keys.c.project_scope == (scope.project_id or ""),
        t.idempotency_keys.c.key == once.key,
    )
