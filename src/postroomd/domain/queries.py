"""List queries and their results: orderings, filters, pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, MailboxStatus

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """The order of a list: by one field, and by id in the same direction where its values are equal."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Position:
    """A position in an ordered list: after the item with this id and this value of the order's field."""

    value: datetime | str | int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainQuery:
    """A list of domains. Empty filters match everything; `page` counts from 1, and is 1 if `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    project_id: str | None = None
    statuses: tuple[DomainStatus, ...] = ()
    search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxQuery:
    """A list of mailboxes. Empty filters match everything; `page` counts from 1, and is 1 if `after` is set.

    A search matches addresses that contain `search`, and folded display names that contain `folded_search`: the same
    text in the form of each.
    """

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    domain_id: str | None = None
    project_id: str | None = None
    statuses: tuple[MailboxStatus, ...] = ()
    search: str = ""
    folded_search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasQuery:
    """A list of aliases. Empty filters match everything; `page` counts from 1, and is 1 if `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    mailbox_id: str | None = None
    project_id: str | None = None
    status: AliasStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingQuery:
    """A list of forwardings. Empty filters match everything; `page` counts from 1, and is 1 if `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    mailbox_id: str | None = None
    project_id: str | None = None
    organization_id: str | None = None
    status: ForwardingStatus | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list. `total_count` counts the items of all pages; `has_more`: this page is not the last."""

    items: Sequence[Item]
    total_count: int
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Slice(Generic[Item]):
    """Consecutive items of a list, and the cursor of the next ones: "" at the end of the list."""

    items: Sequence[Item]
    next_cursor: str
