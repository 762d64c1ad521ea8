"""The three lists: every order, pages, filters and searches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message

from postroom.v1alpha1.alias_pb2 import Alias, ListAliasesRequest
from postroom.v1alpha1.domain_pb2 import Domain, ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest, Mailbox
from tests.rpc.support import METHODS, Service, Tenant, fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAME, LATER = 1_800_000_000_000_000, 1_900_000_000_000_000  # microseconds since 1970


@dataclass(frozen=True, slots=True)
class Listed:
    """A list: its request, the field of its answer, its table, and what the fields of its orders are called there."""

    request: type[Any]
    items: str
    table: str
    largest_page: int
    renamed: Mapping[str, str]


LISTS = {
    "ListDomains": Listed(ListDomainsRequest, "domains", "domains", 1_000, {}),
    "ListMailboxes": Listed(ListMailboxesRequest, "mailboxes", "mailboxes", 1_000, {}),
    "ListAliases": Listed(ListAliasesRequest, "aliases", "aliases", 100, {"name": "email"}),
}
ORDERS = [(rpc, value.name) for rpc, listed in LISTS.items() for value in listed.request.OrderBy.DESCRIPTOR.values]


async def test_every_list_of_the_service_is_tested() -> None:
    assert set(LISTS) == {method.name for method in METHODS if method.name.startswith("List")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(service: Service) -> Tenant:
    """A tenant with several of everything, many of them of one instant."""
    tenant = await service.tenant()
    domains = [await tenant.domain() for _ in range(5)]
    mailboxes = [
        *await tenant.mailboxes(domains[0], "dan", "ann", "eve"),
        *await tenant.mailboxes(domains[1], "cat", "bob", "ann"),
        *await tenant.mailboxes(domains[2], "zoe"),
    ]
    for mailbox in mailboxes[:3]:
        for local_part in ("info", "desk"):
            await tenant.alias(mailbox, f"{local_part}.{mailbox.email[:3]}")
    for listed in LISTS.values():
        mine = "organization_id = ?"
        await service.sql(
            f"UPDATE {listed.table} SET created_at = {SAME}, updated_at = {LATER} WHERE {mine}", tenant.organization_id
        )
        ids = await service.sql(f"SELECT id FROM {listed.table} WHERE {mine} ORDER BY id", tenant.organization_id)
        for number, (row_id,) in enumerate(ids[::2]):
            await service.sql(f"UPDATE {listed.table} SET created_at = ? WHERE id = ?", SAME - number, row_id)
            await service.sql(f"UPDATE {listed.table} SET updated_at = ? WHERE id = ?", LATER + number, row_id)
    return tenant


async def items(tenant: Tenant, rpc: str, request: Message) -> tuple[list[Any], int]:
    """What a list answers: its items and its total_count."""
    answer = await tenant.call(rpc, request)
    return list(getattr(answer, LISTS[rpc].items)), answer.total_count


def emails(found: Sequence[Any]) -> set[str]:
    """The local parts of mailboxes or aliases."""
    return {item.email.partition("@")[0] for item in found}


def sort_key(field: str) -> Any:
    """What to sort answered items by: the field, then the id."""

    def key(item: Any) -> tuple[Any, str]:
        value = getattr(item, field)
        return (value.ToNanoseconds() if isinstance(value, Message) and field.endswith("_at") else value, item.id)  # type: ignore[attr-defined]

    return key


@pytest.mark.parametrize(("rpc", "order"), ORDERS)
async def test_every_order_holds_over_all_pages_and_ties_are_broken_by_id(full: Tenant, rpc: str, order: str) -> None:
    listed = LISTS[rpc]
    everything, total = await items(full, rpc, listed.request())
    field, _, direction = order.lower().rpartition("_")
    field = listed.renamed.get(field, field)
    expected = sorted(everything, key=sort_key(field), reverse=direction == "desc")
    if field not in {"name", "email"}:
        values = [sort_key(field)(item)[0] for item in expected]
        assert 1 < len(set(values)) < len(values), "the order is tried on ties and on differences"

    paged: list[Any] = []
    page = 1
    while True:
        request = listed.request(order_by=getattr(listed.request, order), page=page, page_size=2)
        found, counted = await items(full, rpc, request)
        assert counted == total == len(everything)
        paged += found
        if len(found) < 2:
            break
        page += 1
    assert [item.id for item in paged] == [item.id for item in expected]


@pytest.mark.parametrize("rpc", LISTS)
async def test_the_newest_come_first_where_no_order_is_asked_for(full: Tenant, rpc: str) -> None:
    found, _ = await items(full, rpc, LISTS[rpc].request())
    assert found == sorted(found, key=sort_key("created_at"), reverse=True)


@pytest.mark.parametrize("rpc", LISTS)
async def test_a_page_past_the_end_is_empty_and_still_counts_all(full: Tenant, rpc: str) -> None:
    listed = LISTS[rpc]
    _, total = await items(full, rpc, listed.request())
    assert total > 0
    for page in (2, 1_000_000, 2**31 - 1):
        request = listed.request(page=page, page_size=listed.largest_page)
        assert await items(full, rpc, request) == ([], total)


async def test_a_page_holds_fifty_where_no_size_is_asked_for(tenant: Tenant) -> None:
    domain = await tenant.domain()
    await tenant.mailboxes(domain, *(f"name{number}" for number in range(51)))
    first, total = await items(tenant, "ListMailboxes", ListMailboxesRequest())
    second, _ = await items(tenant, "ListMailboxes", ListMailboxesRequest(page=2))
    assert (len(first), len(second), total) == (50, 1, 51)
    assert len({mailbox.id for mailbox in first + second}) == 51
    whole, _ = await items(tenant, "ListMailboxes", ListMailboxesRequest(page_size=1_000))
    assert whole == first + second


async def test_mailboxes_are_filtered_by_several_statuses(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    statuses = {value.name: value.number for value in Mailbox.Status.DESCRIPTOR.values if value.number}
    created = await tenant.mailboxes(domain, *(name.lower() for name in statuses))
    for mailbox, name in zip(created, statuses, strict=True):
        await service.sql("UPDATE mailboxes SET status = ? WHERE id = ?", name.lower(), mailbox.id)

    async def found(*names: str) -> set[str]:
        request = ListMailboxesRequest(statuses=[Mailbox.Status.Value(name) for name in names])
        answered, total = await items(tenant, "ListMailboxes", request)
        assert total == len(answered)
        assert {Mailbox.Status.Name(mailbox.status).lower() for mailbox in answered} == emails(answered)
        return emails(answered)

    for name in statuses:
        assert await found(name) == {name.lower()}
    assert await found("LOCKED", "RENEWING", "LOCKED") == {"locked", "renewing"}
    assert await found("READY", "UNKNOWN_STATUS") == {"ready"}
    assert await found("UNKNOWN_STATUS") == await found() == set(map(str.lower, statuses))


async def test_domains_are_filtered_by_several_statuses(service: Service, tenant: Tenant) -> None:
    # Those that nothing moves by itself.
    names = ("CREATING", "WAITING_VALIDATION", "VALIDATING", "VALIDATION_FAILED")
    for name in names:
        domain = await tenant.domain()
        await service.sql("UPDATE domains SET status = ? WHERE id = ?", name.lower(), domain.id)

    async def found(*asked: str) -> list[str]:
        request = ListDomainsRequest(statuses=[Domain.Status.Value(name) for name in asked])
        answered, total = await items(tenant, "ListDomains", request)
        assert total == len(answered)
        return sorted(Domain.Status.Name(domain.status) for domain in answered)

    for name in names:
        assert await found(name) == [name]
    assert await found("VALIDATING", "CREATING", "READY") == ["CREATING", "VALIDATING"]
    assert await found("READY") == []
    assert await found("UNKNOWN_STATUS") == await found() == sorted(names)


async def test_aliases_are_filtered_by_status_and_mailbox(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    ann, bob = await tenant.mailboxes(domain, "ann", "bob")
    for name in ("provisioning", "deleting", "ready"):
        alias = await tenant.alias(ann, name)
        await service.sql("UPDATE aliases SET status = ? WHERE id = ?", name, alias.id)
    await tenant.alias(bob, "desk")

    async def found(**filters: Any) -> set[str]:
        answered, total = await items(tenant, "ListAliases", ListAliasesRequest(**filters))
        assert total == len(answered)
        return emails(answered)

    assert await found(status=Alias.PROVISIONING) == {"provisioning"}
    assert await found(status=Alias.DELETING) == {"deleting"}
    assert await found(status=Alias.READY) == {"ready", "desk"}
    assert await found(mailbox_id=ann.id, status=Alias.READY) == {"ready"}
    assert await found(mailbox_id=bob.id.upper()) == {"desk"}
    assert await found(project_id=tenant.project_id) == await found() == {"provisioning", "deleting", "ready", "desk"}


async def test_lists_are_filtered_by_project_and_domain(service: Service, tenant: Tenant) -> None:
    further = await service.project(tenant.organization_id)
    here, there = await tenant.domain(), await tenant.domain(project_id=further)
    one, two = await tenant.mailbox(here, "ann"), await tenant.mailbox(there, "bob")
    one_alias, two_alias = await tenant.alias(one, "info"), await tenant.alias(two, "desk")
    assert two.project_id == further
    for rpc, mine, other in (
        ("ListDomains", here, there),
        ("ListMailboxes", one, two),
        ("ListAliases", one_alias, two_alias),
    ):
        for project_id, expected in ((tenant.project_id, mine), (further, other)):
            found, total = await items(tenant, rpc, LISTS[rpc].request(project_id=project_id))
            assert [item.id for item in found] == [expected.id]
            assert total == 1
    for domain, expected_mailbox in ((here, one), (there, two)):
        assert await items(tenant, "ListMailboxes", ListMailboxesRequest(domain_id=domain.id)) == (
            [expected_mailbox],
            1,
        )
    none = ListMailboxesRequest(domain_id=here.id, project_id=further)
    assert await items(tenant, "ListMailboxes", none) == ([], 0)


async def test_a_search_is_a_case_insensitive_part_of_the_address_with_wildcards_as_themselves(tenant: Tenant) -> None:
    domain = await tenant.domain(fresh_name("shop"))
    local_parts = ("a_b", "axb", "50%off", "50xoff", "back/slash", "o'neil", "per.son")
    await tenant.mailboxes(domain, *local_parts)

    async def found(search: str) -> set[str]:
        answered, total = await items(tenant, "ListMailboxes", ListMailboxesRequest(search=search))
        assert total == len(answered)
        return emails(answered)

    for search, expected in {
        "_": {"a_b"},
        "A_B": {"a_b"},
        "%": {"50%off"},
        "0%O": {"50%off"},
        "50": {"50%off", "50xoff"},
        "/": {"back/slash"},
        "'": {"o'neil"},
        "\\": set(),
        "*": set(),
        "b@SHOP": {"a_b", "axb"},
        domain.name: set(local_parts),
        "": set(local_parts),
        "ann": set(),
        "é": set(),
    }.items():
        assert await found(search) == expected, search


async def test_a_search_of_domains_is_a_case_insensitive_part_of_the_name(tenant: Tenant) -> None:
    names = {fresh_name("north-shop"), fresh_name("south-shop"), fresh_name("depot")}
    for name in names:
        await tenant.domain(name)

    async def found(search: str) -> set[str]:
        answered, total = await items(tenant, "ListDomains", ListDomainsRequest(search=search))
        assert total == len(answered)
        return set(map(attrgetter("name"), answered))

    assert await found("SHOP") == {name for name in names if "shop" in name}
    assert await found("north-") == {name for name in names if "north" in name}
    assert await found("depot") == {name for name in names if "depot" in name}
    assert await found("%") == await found("_") == set()
