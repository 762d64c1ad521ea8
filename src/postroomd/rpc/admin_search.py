"""Searches of the operator across tenants: the tenants' own search, one organization after the other.

Each organization's search is served by its own index, which a search of all of them could not use. A page ends after
ORGANIZATIONS_PER_PAGE, so that a call is short however many there are.
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from postroom.admin.v1alpha1 import domain_pb2, mailbox_pb2
from postroomd.clock import EPOCH, MICROSECOND
from postroomd.domain.context import CallContext
from postroomd.domain.display_names import folded_name
from postroomd.domain.domain_names import search_text
from postroomd.domain.errors import InvalidArguments, Reason, Violation
from postroomd.domain.model import Domain, Mailbox, MailboxView
from postroomd.domain.queries import DomainQuery, MailboxQuery, Ordering, Page, Position, Slice
from postroomd.domain.tenancy import Scope
from postroomd.domain.validation import MAX_SEARCH, checking
from postroomd.rpc.admin_convert import admin_mailbox_message
from postroomd.rpc.admin_requests import MAX_PAGE_SIZE
from postroomd.rpc.admission import Slots
from postroomd.rpc.convert import ServiceUrls, domain_message
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.domains import Domains
from postroomd.storage.protocols.mailboxes import Mailboxes

ORGANIZATIONS_PER_PAGE = 200
MIN_SEARCH = 3  # characters, which an index needs
SEARCHES, WAITING_SEARCHES = 1, 16
NEWEST_FIRST = Ordering(field="created_at", descending=True)


class Found(Protocol):
    """A resource that a search finds."""

    @property
    def id(self) -> str:
        """The id."""


Item = TypeVar("Item", bound=Found)
Search = Callable[[CallContext, int, Position | None], Awaitable[Page[Item]]]
"""A context with the scope of an organization, a page size and a position -> a page of its matches, newest first."""
ListOrganizations = Callable[[str, int], Awaitable[Sequence[str]]]
"""An id and a limit -> the organizations after the id."""


async def search_tenants(
    search: Search[Item],
    organizations_after: ListOrganizations,
    *,
    organization_id: str | None,
    token: str,
    limit: int,
    created_at: Callable[[Item], datetime],
) -> Slice[Item]:
    """Return up to `limit` matches of the organizations, or of one. Raises InvalidArguments for a malformed token."""
    first, position = _decode(token) if token else (organization_id or "", None)
    if organization_id is not None:
        if first != organization_id:
            raise _malformed()
        rest: Sequence[str] = []
    else:
        rest = await organizations_after(first, ORGANIZATIONS_PER_PAGE)
    organizations = [first, *rest] if first and (position or organization_id) else [*rest]
    found: list[Item] = []
    for each in organizations:
        context = CallContext(actor="admin", tenant=Scope(organization_id=each))
        page = await search(context, limit - len(found), position)
        found += page.items
        if page.has_more:
            last = found[-1]
            return Slice(found, _encode(each, Position(created_at(last), last.id)))
        position = None
        if len(found) == limit:
            return Slice(found, "" if organization_id else _encode(each, None))
    more = len(rest) == ORGANIZATIONS_PER_PAGE
    return Slice(found, _encode(organizations[-1], None) if more else "")


def _encode(organization_id: str, position: Position | None) -> str:
    text = organization_id
    if position is not None and isinstance(position.value, datetime):
        text += f"/{(position.value - EPOCH) // MICROSECOND}/{position.id}"
    return urlsafe_b64encode(text.encode()).decode()


def _decode(token: str) -> tuple[str, Position | None]:
    try:
        organization_id, *rest = b64decode(token.encode(), altchars=b"-_", validate=True).decode().split("/")
        organization_id = str(UUID(organization_id))
        if not rest:
            return organization_id, None
        microseconds, row_id = rest
        return organization_id, Position(EPOCH + timedelta(microseconds=int(microseconds)), str(UUID(row_id)))
    except (ValueError, OverflowError):
        raise _malformed() from None


def _malformed() -> InvalidArguments:
    message = "send the next_page_token of a response to the same search, or leave it empty"
    return InvalidArguments([Violation("page_token", Reason.FORMAT, message)])


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSearchServicer:
    """The RPCs of the admin service that search all tenants."""

    mailboxes: Mailboxes
    domains: Domains
    administration: Administration
    urls: ServiceUrls
    slots: Slots = field(default_factory=lambda: Slots("searches", SEARCHES, WAITING_SEARCHES))

    async def SearchMailboxes(
        self, request: mailbox_pb2.SearchMailboxesRequest, context: CallContext
    ) -> Slice[Mailbox]:
        """Search the mailboxes of all tenants."""
        asked = _check(request)

        async def search(tenant: CallContext, size: int, after: Position | None) -> Page[MailboxView]:
            query = MailboxQuery(
                ordering=NEWEST_FIRST,
                page=1,
                page_size=size,
                after=after,
                search=asked.search,
                folded_search=folded_name(request.search),
            )
            return await self.mailboxes.list(tenant, query)

        found = await self._search(asked, search, lambda each: EPOCH + each.created_at * MICROSECOND)
        mailboxes = await self.administration.mailboxes([each.id for each in found.items])
        # One that was purged meanwhile is left out.
        return Slice([mailboxes[each.id] for each in found.items if each.id in mailboxes], found.next_cursor)

    async def SearchDomains(self, request: domain_pb2.SearchDomainsRequest, context: CallContext) -> Slice[Domain]:
        """Search the domains of all tenants."""
        asked = _check(request)

        async def search(tenant: CallContext, size: int, after: Position | None) -> Page[Domain]:
            query = DomainQuery(ordering=NEWEST_FIRST, page=1, page_size=size, after=after, search=asked.search)
            return await self.domains.list(tenant, query)

        return await self._search(asked, search, lambda each: each.created_at)

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "SearchMailboxes": Rpc(self.SearchMailboxes, self._mailboxes_message),
            "SearchDomains": Rpc(self.SearchDomains, self._domains_message),
        }

    async def _search(
        self, asked: "_Asked", search: Search[Item], created_at: Callable[[Item], datetime]
    ) -> Slice[Item]:
        async with self.slots.slot(""):
            found = await search_tenants(
                search,
                self.administration.organizations_after,
                organization_id=asked.organization_id,
                token=asked.token,
                limit=asked.limit,
                created_at=created_at,
            )
            if not found.items and asked.organization_id and not asked.token:
                await self.administration.require_organization(asked.organization_id)
            return found

    def _mailboxes_message(self, found: Slice[Mailbox]) -> mailbox_pb2.SearchMailboxesResponse:
        return mailbox_pb2.SearchMailboxesResponse(
            mailboxes=map(admin_mailbox_message, found.items), next_page_token=found.next_cursor
        )

    def _domains_message(self, found: Slice[Domain]) -> domain_pb2.SearchDomainsResponse:
        messages = [domain_message(each, self.urls) for each in found.items]
        return domain_pb2.SearchDomainsResponse(domains=messages, next_page_token=found.next_cursor)


@dataclass(frozen=True, slots=True)
class _Asked:
    search: str
    organization_id: str | None
    limit: int
    token: str


def _check(request: mailbox_pb2.SearchMailboxesRequest | domain_pb2.SearchDomainsRequest) -> _Asked:
    """Return the arguments of a search. Raises InvalidArguments."""
    with checking() as check:
        search = search_text(check.text("search", request.search, MAX_SEARCH))
        if check.present("search", request.search) and len(search) < MIN_SEARCH:
            check.refuse("search", Reason.CONSTRAINT, f"must have at least {MIN_SEARCH} characters")
        organization_id = check.optional_uuid("organization_id", request.organization_id)
        limit = check.limit(request.page_size, MAX_PAGE_SIZE)
    return _Asked(search, organization_id, limit, request.page_token)
