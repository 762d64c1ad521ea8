"""Page tokens: every item once, despite concurrent changes, and no token of another query or tenant."""

import base64
from typing import Any

import pytest
import pytest_asyncio

from postroom.v1alpha1.alias_pb2 import Alias, ListAliasesRequest
from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.forwarding_pb2 import Forwarding
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest, ListMailboxesResponse, Mailbox
from postroomd.domain.queries import Page
from postroomd.rpc.page_tokens import PART_ITEMS, ListResult, serialize_in_parts
from tests.rpc.client import Tenant, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.requests import LIST_OF, REQUEST_TYPES, orders_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS = [(rpc, order) for rpc, operation in LIST_OF.items() for order in orders_of(operation)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def populated(service: Service) -> Tenant:
    """A tenant with five resources of each type, the mailboxes with equal timestamps."""
    tenant = await service.tenant()
    domains = [await tenant.domain() for _ in range(5)]
    mailboxes = await tenant.mailboxes(domains[0], "dan", "ann", "eve", "bob", "cat")
    for mailbox in mailboxes:
        await tenant.alias(mailbox, f"also.{mailbox.email[:3]}")
        await tenant.forwarding(mailbox, f"{mailbox.email[:3]}@elsewhere.example")
    return tenant


async def ids_by_page(tenant: Tenant, rpc: str, **arguments: Any) -> list[str]:
    """The ids of a list of five items, read page by page."""
    found: list[str] = []
    token = ""
    while True:
        response = await tenant.call(rpc, REQUEST_TYPES[rpc](page_token=token, page_size=2, **arguments))
        found += [item.id for item in getattr(response, LIST_OF[rpc].items)]
        assert response.total_count == 5
        token = response.next_page_token
        assert bool(token) == (len(found) < 5)
        if not token:
            return found


@pytest.mark.parametrize(("rpc", "order"), ORDERS)
async def test_tokens_lead_through_the_whole_list_in_every_order(populated: Tenant, rpc: str, order: str) -> None:
    order_by = getattr(REQUEST_TYPES[rpc], order)
    whole = await populated.call(rpc, REQUEST_TYPES[rpc](order_by=order_by))
    assert not whole.next_page_token
    assert await ids_by_page(populated, rpc, order_by=order_by) == [
        item.id for item in getattr(whole, LIST_OF[rpc].items)
    ]


async def test_tokens_lead_through_searches_and_status_filters(populated: Tenant) -> None:
    all_ids = await ids_by_page(populated, "ListMailboxes")
    statuses = [Mailbox.WAITING_DOMAIN, Mailbox.LOCKED]
    assert await ids_by_page(populated, "ListMailboxes", statuses=statuses) == all_ids
    assert await ids_by_page(populated, "ListMailboxes", search="@") == all_ids
    assert await ids_by_page(populated, "ListMailboxes", search=".example", statuses=statuses) == all_ids
    assert await ids_by_page(populated, "ListDomains", search="main", statuses=[Domain.WAITING_VALIDATION])
    assert await ids_by_page(populated, "ListAliases", status=Alias.READY)
    assert await ids_by_page(populated, "ListForwardings", status=Forwarding.READY)


async def test_items_created_between_pages_cause_no_duplicates_or_gaps(tenant: Tenant) -> None:
    domain = await tenant.domain()
    await tenant.mailboxes(domain, "b", "d", "f")
    by_email: dict[str, Any] = {"order_by": ListMailboxesRequest.EMAIL_ASC, "page_size": 2}
    first = await tenant.call("ListMailboxes", ListMailboxesRequest(**by_email))
    await tenant.mailboxes(domain, "a", "c", "e")
    rest = await tenant.call("ListMailboxes", ListMailboxesRequest(page_token=first.next_page_token, **by_email))
    assert [mailbox.email[0] for mailbox in (*first.mailboxes, *rest.mailboxes)] == ["b", "d", "e", "f"]
    assert (first.total_count, rest.total_count) == (3, 6)


MALFORMED = {("page_token", "FORMAT")}


async def violations_of(tenant: Tenant, rpc: str, request: Any) -> set[tuple[str, str]]:
    return (await failure_of(tenant.call(rpc, request))).violations


async def test_a_token_is_valid_for_its_own_query_only(service: Service, populated: Tenant) -> None:
    arguments: dict[str, Any] = {"search": "@", "order_by": ListMailboxesRequest.EMAIL_ASC}
    response = await populated.call("ListMailboxes", ListMailboxesRequest(page_size=2, **arguments))
    arguments["page_token"] = response.next_page_token
    await populated.call("ListMailboxes", ListMailboxesRequest(page_size=3, **arguments))
    for other in (
        {"order_by": ListMailboxesRequest.EMAIL_DESC},
        {"search": "n"},
        {"project_id": populated.project_id},
        {"domain_id": response.mailboxes[0].domain_id},
        {"statuses": [Mailbox.READY]},
    ):
        request = ListMailboxesRequest(**{**arguments, **other})
        assert await violations_of(populated, "ListMailboxes", request) == MALFORMED
    stranger = await service.tenant()
    assert await violations_of(stranger, "ListMailboxes", ListMailboxesRequest(**arguments)) == MALFORMED
    assert (
        await violations_of(populated, "ListAliases", ListAliasesRequest(page_token=arguments["page_token"]))
        == MALFORMED
    )
    with_page = ListMailboxesRequest(page=2, **arguments)
    assert await violations_of(populated, "ListMailboxes", with_page) == {("page_token", "CONSTRAINT")}


async def test_a_forged_token_is_rejected_or_stays_within_the_scope(service: Service, populated: Tenant) -> None:
    stranger = await service.tenant()
    await stranger.mailboxes(await stranger.domain(fresh_name()), "zoe")
    by_email = ListMailboxesRequest(order_by=ListMailboxesRequest.EMAIL_ASC, page_size=1)
    by_time = ListMailboxesRequest(page_size=1)
    for request in (by_email, by_time):
        token = (await populated.call("ListMailboxes", request)).next_page_token
        decoded = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        digest, last_id = decoded[:9], decoded[9:45]
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
            forged = base64.urlsafe_b64encode(digest + position).decode().rstrip("=")
            request.page_token = forged
            try:
                response = await populated.call("ListMailboxes", request)
            except Exception:
                assert await violations_of(populated, "ListMailboxes", request) == MALFORMED
            else:
                assert all(item.organization_id == populated.organization_id for item in response.mailboxes)
        for garbage in ("a", "é", "%%%", "A" * 5_000, token[1:], f"{token}!"):
            request.page_token = garbage
            assert await violations_of(populated, "ListMailboxes", request) == MALFORMED, garbage


@pytest.mark.parametrize("length", [PART_ITEMS + 1, 2 * PART_ITEMS, 1_000])
async def test_the_parts_of_a_long_page_are_together_its_encoding(length: int) -> None:
    def response(result: ListResult[str]) -> ListMailboxesResponse:
        mailboxes = [Mailbox(id=each) for each in result.page.items]
        return ListMailboxesResponse(
            mailboxes=mailboxes, total_count=result.page.total_count, next_page_token=result.next_page_token
        )

    result = ListResult(Page(tuple(map(str, range(length))), 5_000, has_more=True), "token")
    encoded = await serialize_in_parts(response, result)
    assert ListMailboxesResponse.FromString(encoded) == response(result)


async def test_a_long_page_is_complete(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    created = [await tenant.mailboxes(domain, *(f"{batch}{number}" for number in range(100))) for batch in "ab"]
    request = ListMailboxesRequest(page_size=150, order_by=ListMailboxesRequest.EMAIL_ASC)
    first = await tenant.call("ListMailboxes", request)
    request.page_token = first.next_page_token
    rest = await tenant.call("ListMailboxes", request)
    assert (len(first.mailboxes), len(rest.mailboxes), first.total_count) == (150, 50, 200)
    ids = {mailbox.id for mailbox in (*first.mailboxes, *rest.mailboxes)}
    assert ids == {mailbox.id for batch in created for mailbox in batch}
