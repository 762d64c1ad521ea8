"""What lists are asked for and return: orderings, filters, pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from postroomd.domain.model import AliasStatus, DomainStatus, MailboxStatus

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """The order of a list: by one field, ties broken by id in the same direction."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an ordered list: right after the item with this value of the order's field, and this id."""

    value: datetime | str | int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainQuery:
    """Which domains to list. Empty filters match everything; `page` counts from 1, and is 1 where `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    project_id: str | None = None
    statuses: tuple[DomainStatus, ...] = ()
    search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxQuery:
    """Which mailboxes to list. Empty filters match everything; `page` counts from 1, and is 1 where `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    domain_id: str | None = None
    project_id: str | None = None
    statuses: tuple[MailboxStatus, ...] = ()
    search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasQuery:
    """Which aliases to list. Empty filters match everything; `page` counts from 1, and is 1 where `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    mailbox_id: str | None = None
    project_id: str | None = None
    status: AliasStatus | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list; `total_count` counts the matches on all pages, and `has_more` tells of further ones."""

    items: Sequence[Item]
    total_count: int
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Slice(Generic[Item]):
    """Some items of a list, and from where it goes on: "" where it ends."""

    items: Sequence[Item]
    next_cursor: str
