"""Cursors of the operator's lists, which are ordered by an instant and an id."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Column, ColumnElement, literal, tuple_

from postroomd.domain.audit import AuditEvent
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.payments import Payment
from postroomd.domain.provisions import Provision
from postroomd.domain.queries import Slice
from postroomd.storage import schema as t

Item = TypeVar("Item", Payment, Provision, AuditEvent)


def slice_of(rows: Sequence[Item], limit: int, position: Callable[[Item], tuple[datetime, str]]) -> Slice[Item]:
    """Return the first `limit` of the rows, which were read with one more to know whether the list continues.

    `position` returns the instant and the id of an item, which its cursor consists of.
    """
    items = rows[:limit]
    return Slice(items, _encode_cursor(*position(items[-1])) if len(rows) > limit else "")


def _encode_cursor(instant: datetime, row_id: str) -> str:
    return urlsafe_b64encode(f"{(instant - t.EPOCH) // t.MICROSECOND}/{row_id}".encode()).decode()


def _decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Return the instant and the id of a cursor. Raises InvalidArguments for a malformed one."""
    try:
        microseconds, _, row_id = urlsafe_b64decode(cursor.encode()).decode().partition("/")
        return t.EPOCH + timedelta(microseconds=int(microseconds)), str(UUID(row_id))
    except (ValueError, OverflowError):
        message = "send the next_page_token of the previous response, or leave it empty"
        raise InvalidArguments([Violation("page_token", Reason.FORMAT, message)]) from None


def after_cursor(
    cursor: str, instant: Column[Any], row_id: Column[Any], *, descending: bool = False
) -> list[ColumnElement[bool]]:
    """Return the condition of the rows after a cursor; none at the start of a list. Raises InvalidArguments."""
    if not cursor:
        return []
    last_instant, last_id = _decode_cursor(cursor)
    last = tuple_(literal(last_instant, t.Instant), literal(last_id, t.ID))
    key = tuple_(instant, row_id)
    return [key < last if descending else key > last]
