"""Page tokens: the position at which a list continues, as an opaque string that the caller sends back.

A token holds a digest of its query and the position of the page's last item. With another query it is rejected. It is
neither secret nor a grant: a forged token can only choose another position within the caller's scope.
"""

import asyncio
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from postroomd.domain.errors import Reason
from postroomd.domain.queries import AliasQuery, DomainQuery, ForwardingQuery, MailboxQuery, Page, Position
from postroomd.domain.tenancy import Scope
from postroomd.domain.validation import Checker

Query = TypeVar("Query", DomainQuery, MailboxQuery, AliasQuery, ForwardingQuery)
AnyQuery = DomainQuery | MailboxQuery | AliasQuery | ForwardingQuery
Item = TypeVar("Item")

LONG_PAGE_ITEMS = 100  # more are serialized in parts
PART_ITEMS = 50  # that are serialized at once: about 0.5 ms
DIGEST_BYTES = 9  # a multiple of 3, so that base64 needs no padding between digest and position
ID_CHARACTERS = 36
MAX_COUNT = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ListRequest(Protocol):
    """The paging fields that every list request has."""

    page: int
    page_token: str


@dataclass(frozen=True, slots=True)
class ListResult(Generic[Item]):
    """The result of a list RPC: one page, and the token of the next page, "" on the last page."""

    page: Page[Item]
    next_page_token: str


async def serialize_in_parts(response: Callable[[ListResult[Item]], Message], result: ListResult[Item]) -> bytes:
    """Return the serialized response to a page. While it is a long one, other calls have a turn after each part.

    The encodings of parts of a message are together that of the message: lists are concatenated, and of other fields,
    equal here, the last counts (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
    """
    page, parts = result.page, []
    if len(page.items) <= LONG_PAGE_ITEMS:
        return response(result).SerializeToString()
    for start in range(0, len(page.items), PART_ITEMS):
        items = page.items[start : start + PART_ITEMS]
        parts.append(response(replace(result, page=replace(page, items=items))).SerializeToString())
        await asyncio.sleep(0)
    return b"".join(parts)


def with_page_token(check: Checker, request: ListRequest, scope: Scope, query: Query) -> Query:
    """Return the query, starting at the position of the request's page token if it has one."""
    if not request.page_token:
        return query
    if request.page:
        check.refuse("page_token", Reason.CONSTRAINT, "must not be set together with page")
    if check.violations:
        return query  # with a faulty filter or order, the digest can't match
    try:
        return replace(query, page=1, after=_position(request.page_token, scope, query))
    except ValueError:
        message = "must be the next_page_token of a response to a request with the same order and filters"
        check.refuse("page_token", Reason.FORMAT, message)
        return query


def list_result(page: Page[Item], scope: Scope, query: AnyQuery) -> ListResult[Item]:
    """Return a page of a query with the token of the next page."""
    if not page.has_more:
        return ListResult(page, "")
    last = page.items[-1]
    value = getattr(last, query.ordering.field)
    number = (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
    position = f"{last.id}{number}".encode()  # type: ignore[attr-defined]
    return ListResult(page, urlsafe_b64encode(_digest(scope, query) + position).decode().rstrip("="))


def _position(token: str, scope: Scope, query: AnyQuery) -> Position:
    """Return the position that a token of the query encodes. Raises ValueError for any other token."""
    decoded = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    if decoded[:DIGEST_BYTES] != _digest(scope, query):
        raise ValueError("a token of another query")
    text = decoded[DIGEST_BYTES:].decode()
    return Position(_value(query.ordering.field, text[ID_CHARACTERS:]), str(UUID(text[:ID_CHARACTERS])))


def _value(field: str, text: str) -> datetime | str | int:
    """Return the value of an ordering field. Raises ValueError for a text that is no such value."""
    if field.endswith("_at"):
        try:
            return _EPOCH + int(text) * _MICROSECOND
        except OverflowError as error:
            raise ValueError("not a timestamp") from error
    if field.endswith("_count"):
        count = int(text)
        if not 0 <= count <= MAX_COUNT:
            raise ValueError("not a count")
        return count
    if not text.isprintable():  # PostgreSQL accepts no U+0000 in text
        raise ValueError("not a name")
    return text


def _digest(scope: Scope, query: AnyQuery) -> bytes:
    """Return the digest of scope, order and filters: the page size may change between pages."""
    unpaged = replace(query, page=1, page_size=1, after=None)
    return sha256(repr((scope, unpaged)).encode()).digest()[:DIGEST_BYTES]
