"""Page tokens: where a list goes on, as an opaque text that its caller sends back.

A token is the position after a page's last item, behind a digest of the query that answered it: with another query it
would mean nothing, and is refused. It is no secret and grants nothing. Whoever makes one up reads on from anywhere in
what the call itself can reach: the statement stays within the caller's scope.
"""

from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from postroomd.domain.errors import Reason
from postroomd.domain.queries import AliasQuery, DomainQuery, MailboxQuery, Page, Position
from postroomd.domain.tenancy import Scope
from postroomd.domain.validation import Checker

Query = TypeVar("Query", DomainQuery, MailboxQuery, AliasQuery)
Item = TypeVar("Item")

DIGEST = 9  # octets: a whole number of base64's groups
ID = 36  # characters
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ListRequest(Protocol):
    """What every request of a list has."""

    page: int
    page_token: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[Item]):
    """A page, and what leads to the next one: "" after the last."""

    page: Page[Item]
    next_page_token: str


def resumed(check: Checker, request: ListRequest, scope: Scope, query: Query) -> Query:
    """The query from where the request's page token says, where it has one."""
    if not request.page_token:
        return query
    if request.page:
        check.refuse("page_token", Reason.CONSTRAINT, "not together with page")
    if check.violations:
        return query  # which is not what the caller meant, so that the token can't be held against it
    try:
        return replace(query, page=1, after=_position(request.page_token, scope, query))
    except ValueError:
        message = "the next_page_token of an answer to the same request; order and filters can't change in between"
        check.refuse("page_token", Reason.FORMAT, message)
        return query


def answer(page: Page[Item], scope: Scope, query: DomainQuery | MailboxQuery | AliasQuery) -> Answer[Item]:
    """A page with the token of the next one."""
    if not page.has_more:
        return Answer(page, "")
    last = page.items[-1]
    value = getattr(last, query.ordering.field)
    number = (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
    position = f"{last.id}{number}".encode()  # type: ignore[attr-defined]
    return Answer(page, urlsafe_b64encode(_digest(scope, query) + position).decode().rstrip("="))


def _position(token: str, scope: Scope, query: DomainQuery | MailboxQuery | AliasQuery) -> Position:
    """The position that a token of this query says. Raises ValueError for any other."""
    octets = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    if octets[:DIGEST] != _digest(scope, query):
        raise ValueError("the token of another query")
    text = octets[DIGEST:].decode()
    return Position(_value(query.ordering.field, text[ID:]), str(UUID(text[:ID])))


def _value(field: str, text: str) -> datetime | str | int:
    if field.endswith("_at"):
        try:
            return _EPOCH + int(text) * _MICROSECOND
        except OverflowError as error:
            raise ValueError("no instant") from error
    if field.endswith("_count"):
        count = int(text)
        if not 0 <= count < 2**31:
            raise ValueError("no count")
        return count
    if not text.isprintable():  # PostgreSQL has no U+0000 in a text
        raise ValueError("no name")
    return text


def _digest(scope: Scope, query: DomainQuery | MailboxQuery | AliasQuery) -> bytes:
    asked = replace(query, page=1, page_size=1, after=None)
    return sha256(repr((scope, asked)).encode()).digest()[:DIGEST]
