"""Lists by page token: everything once, whatever comes and goes, and no token of another query or tenant."""

import base64
from typing import Any

import pytest
import pytest_asyncio

from postroom.v1alpha1.alias_pb2 import Alias, ListAliasesRequest
from postroom.v1alpha1.domain_pb2 import Domain, ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest, Mailbox
from tests.rpc.support import Service, Tenant, failure_of, fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTS: dict[str, tuple[Any, str]] = {
    "ListDomains": (ListDomainsRequest, "domains"),
    "ListMailboxes": (ListMailboxesRequest, "mailboxes"),
    "ListAliases": (ListAliasesRequest, "aliases"),
}
ORDERS = [(rpc, order) for rpc, (request, _) in LISTS.items() for order in request.OrderBy.DESCRIPTOR.values_by_name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(service: Service) -> Tenant:
    """A tenant with five of everything, the mailboxes of one instant."""
    tenant = await service.tenant()
    domains = [await tenant.domain() for _ in range(5)]
    mailboxes = await tenant.mailboxes(domains[0], "dan", "ann", "eve", "bob", "cat")
    for mailbox in mailboxes:
        await tenant.alias(mailbox, f"also.{mailbox.email[:3]}")
    return tenant


async def walked(tenant: Tenant, rpc: str, **asked: Any) -> list[str]:
    """The ids of a list, page by page."""
    request, field = LISTS[rpc]
    found: list[str] = []
    token = ""
    while True:
        answer = await tenant.call(rpc, request(page_token=token, page_size=2, **asked))
        found += [item.id for item in getattr(answer, field)]
        assert answer.total_count == 5
        token = answer.next_page_token
        assert bool(token) == (len(found) < 5)
        if not token:
            return found


@pytest.mark.parametrize(("rpc", "order"), ORDERS)
async def test_tokens_lead_through_the_whole_list_in_every_order(full: Tenant, rpc: str, order: str) -> None:
    request, field = LISTS[rpc]
    order_by = getattr(request, order)
    whole = await full.call(rpc, request(order_by=order_by))
    assert not whole.next_page_token
    assert await walked(full, rpc, order_by=order_by) == [item.id for item in getattr(whole, field)]


async def test_tokens_lead_through_searches_and_statuses(full: Tenant) -> None:
    everything = await walked(full, "ListMailboxes")
    statuses = [Mailbox.WAITING_DOMAIN, Mailbox.LOCKED]
    assert await walked(full, "ListMailboxes", statuses=statuses) == everything
    assert await walked(full, "ListMailboxes", search="@") == everything
    assert await walked(full, "ListMailboxes", search=".example", statuses=statuses) == everything
    assert await walked(full, "ListDomains", search="main", statuses=[Domain.WAITING_VALIDATION])
    assert await walked(full, "ListAliases", status=Alias.READY)


async def test_what_comes_and_goes_in_between_makes_nothing_appear_twice_or_be_passed_over(tenant: Tenant) -> None:
    domain = await tenant.domain()
    await tenant.mailboxes(domain, "b", "d", "f")
    by_email: dict[str, Any] = {"order_by": ListMailboxesRequest.EMAIL_ASC, "page_size": 2}
    first = await tenant.call("ListMailboxes", ListMailboxesRequest(**by_email))
    await tenant.mailboxes(domain, "a", "c", "e")
    rest = await tenant.call("ListMailboxes", ListMailboxesRequest(page_token=first.next_page_token, **by_email))
    assert [mailbox.email[0] for mailbox in (*first.mailboxes, *rest.mailboxes)] == ["b", "d", "e", "f"]
    assert (first.total_count, rest.total_count) == (3, 6)


async def refused(tenant: Tenant, rpc: str, request: Any) -> set[tuple[str, str]]:
    return (await failure_of(tenant.call(rpc, request))).violations


async def test_a_token_is_of_one_query(service: Service, full: Tenant) -> None:
    asked: dict[str, Any] = {"search": "@", "order_by": ListMailboxesRequest.EMAIL_ASC}
    answer = await full.call("ListMailboxes", ListMailboxesRequest(page_size=2, **asked))
    asked["page_token"] = answer.next_page_token
    await full.call("ListMailboxes", ListMailboxesRequest(page_size=3, **asked))
    for other in (
        {"order_by": ListMailboxesRequest.EMAIL_DESC},
        {"search": "n"},
        {"project_id": full.project_id},
        {"domain_id": answer.mailboxes[0].domain_id},
        {"statuses": [Mailbox.READY]},
    ):
        request = ListMailboxesRequest(**{**asked, **other})
        assert await refused(full, "ListMailboxes", request) == {("page_token", "FORMAT")}
    stranger = await service.tenant()
    assert await refused(stranger, "ListMailboxes", ListMailboxesRequest(**asked)) == {("page_token", "FORMAT")}
    assert await refused(full, "ListAliases", ListAliasesRequest(page_token=asked["page_token"])) == {
        ("page_token", "FORMAT")
    }
    assert await refused(full, "ListMailboxes", ListMailboxesRequest(page=2, **asked)) == {("page_token", "CONSTRAINT")}


async def test_a_made_up_token_is_refused_or_reads_the_callers_own(service: Service, full: Tenant) -> None:
    stranger = await service.tenant()
    await stranger.mailboxes(await stranger.domain(fresh_name()), "zoe")
    by_email = ListMailboxesRequest(order_by=ListMailboxesRequest.EMAIL_ASC, page_size=1)
    by_time = ListMailboxesRequest(page_size=1)
    for request in (by_email, by_time):
        token = (await full.call("ListMailboxes", request)).next_page_token
        octets = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        digest, last_id = octets[:9], octets[9:45]
        for position in (
            b"",
            b"x" * 36 + b"a",
            last_id,
            last_id + b"\0",
            last_id + b"\xff",
            last_id + b"9" * 30,
            last_id + b"-1",
            last_id + b"1e5",
            b"0" * 36 + b"a",
        ):
            made_up = base64.urlsafe_b64encode(digest + position).decode().rstrip("=")
            request.page_token = made_up
            try:
                answer = await full.call("ListMailboxes", request)
            except Exception:
                assert await refused(full, "ListMailboxes", request) == {("page_token", "FORMAT")}
            else:
                assert all(item.organization_id == full.organization_id for item in answer.mailboxes)
        for garbage in ("a", "é", "%%%", "A" * 5_000, token[1:], f"{token}!"):
            request.page_token = garbage
            assert await refused(full, "ListMailboxes", request) == {("page_token", "FORMAT")}, garbage
