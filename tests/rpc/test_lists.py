"""Lists: orders, pages, filters and searches."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message

from postroom.v1alpha1.alias_pb2 import Alias, ListAliasesRequest
from postroom.v1alpha1.domain_pb2 import Domain, ListDomainsRequest
from postroom.v1alpha1.forwarding_pb2 import Forwarding, ListForwardingsRequest
from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest, Mailbox
from tests.rpc.client import METHODS, Tenant, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.requests import LIST_OF, REQUEST_TYPES, orders_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATED_AT, UPDATED_AT = 1_800_000_000_000_000, 1_900_000_000_000_000  # microseconds since 1970
ORDERS = [(rpc, order) for rpc, operation in LIST_OF.items() for order in orders_of(operation)]


async def test_every_list_of_the_service_is_tested() -> None:
    assert set(LIST_OF) == {method.name for method in METHODS if method.name.startswith("List")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def populated(service: Service) -> Tenant:
    """A tenant with several resources of each type, many of them with the same timestamps."""
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
            await tenant.forwarding(mailbox, f"{local_part}.{mailbox.email[:3]}@elsewhere.example")
    for table in (operation.items for operation in LIST_OF.values()):
        condition = "organization_id = ?"
        await service.sql(
            f"UPDATE {table} SET created_at = {CREATED_AT}, updated_at = {UPDATED_AT} WHERE {condition}",
            tenant.organization_id,
        )
        ids = await service.sql(f"SELECT id FROM {table} WHERE {condition} ORDER BY id", tenant.organization_id)
        for number, (row_id,) in enumerate(ids[::2]):
            await service.sql(f"UPDATE {table} SET created_at = ? WHERE id = ?", CREATED_AT - number, row_id)
            await service.sql(f"UPDATE {table} SET updated_at = ? WHERE id = ?", UPDATED_AT + number, row_id)
    return tenant


async def items(tenant: Tenant, rpc: str, request: Message) -> tuple[list[Any], int]:
    """The items and the total_count of a list's response."""
    response = await tenant.call(rpc, request)
    return list(getattr(response, LIST_OF[rpc].items)), response.total_count


def local_parts_of(found: Sequence[Any]) -> set[str]:
    """The local parts of mailboxes or aliases."""
    return {item.email.partition("@")[0] for item in found}


def sort_key(field: str) -> Any:
    """The sort key of items: the field, then the id."""

    def key(item: Any) -> tuple[Any, str]:
        value = getattr(item, field)
        return (value.ToNanoseconds() if isinstance(value, Message) and field.endswith("_at") else value, item.id)  # type: ignore[attr-defined]

    return key


@pytest.mark.parametrize(("rpc", "order"), ORDERS)
async def test_every_order_holds_across_pages_with_ties_broken_by_id(populated: Tenant, rpc: str, order: str) -> None:
    operation, request_type = LIST_OF[rpc], REQUEST_TYPES[rpc]
    all_items, total = await items(populated, rpc, request_type())
    field, _, direction = order.lower().rpartition("_")
    field = operation.ordering_fields.get(field, field)
    expected = sorted(all_items, key=sort_key(field), reverse=direction == "desc")
    if field not in {"name", "email"}:
        values = [sort_key(field)(item)[0] for item in expected]
        assert 1 < len(set(values)) < len(values), "some values are equal, some differ"

    paged: list[Any] = []
    page = 1
    while True:
        request = request_type(order_by=getattr(request_type, order), page=page, page_size=2)
        found, page_total = await items(populated, rpc, request)
        assert page_total == total == len(all_items)
        paged += found
        if len(found) < 2:
            break
        page += 1
    assert [item.id for item in paged] == [item.id for item in expected]


@pytest.mark.parametrize("rpc", LIST_OF)
async def test_the_default_order_is_newest_first(populated: Tenant, rpc: str) -> None:
    found, _ = await items(populated, rpc, REQUEST_TYPES[rpc]())
    assert found == sorted(found, key=sort_key("created_at"), reverse=True)


@pytest.mark.parametrize("rpc", LIST_OF)
async def test_a_page_past_the_end_is_empty_and_has_the_total_count(populated: Tenant, rpc: str) -> None:
    _, total = await items(populated, rpc, REQUEST_TYPES[rpc]())
    assert total > 0
    for page in (2, 1_000_000, 2**31 - 1):
        request = REQUEST_TYPES[rpc](page=page, page_size=LIST_OF[rpc].max_page_size)
        assert await items(populated, rpc, request) == ([], total)


async def test_the_default_page_size_is_fifty(tenant: Tenant) -> None:
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

    async def found_with(*names: str) -> set[str]:
        request = ListMailboxesRequest(statuses=[Mailbox.Status.Value(name) for name in names])
        found, total = await items(tenant, "ListMailboxes", request)
        assert total == len(found)
        assert {Mailbox.Status.Name(mailbox.status).lower() for mailbox in found} == local_parts_of(found)
        return local_parts_of(found)

    for name in statuses:
        assert await found_with(name) == {name.lower()}
    assert await found_with("LOCKED", "RENEWING", "LOCKED") == {"locked", "renewing"}
    assert await found_with("READY", "UNKNOWN_STATUS") == {"ready"}
    assert await found_with("UNKNOWN_STATUS") == await found_with() == set(map(str.lower, statuses))


async def test_domains_are_filtered_by_several_statuses(service: Service, tenant: Tenant) -> None:
    # The statuses that the worker does not change.
    names = ("CREATING", "WAITING_VALIDATION", "VALIDATING", "VALIDATION_FAILED")
    for name in names:
        domain = await tenant.domain()
        await service.sql("UPDATE domains SET status = ? WHERE id = ?", name.lower(), domain.id)

    async def found_with(*requested: str) -> list[str]:
        request = ListDomainsRequest(statuses=[Domain.Status.Value(name) for name in requested])
        found, total = await items(tenant, "ListDomains", request)
        assert total == len(found)
        return sorted(Domain.Status.Name(domain.status) for domain in found)

    for name in names:
        assert await found_with(name) == [name]
    assert await found_with("VALIDATING", "CREATING", "READY") == ["CREATING", "VALIDATING"]
    assert await found_with("READY") == []
    assert await found_with("UNKNOWN_STATUS") == await found_with() == sorted(names)


async def test_aliases_are_filtered_by_status_and_mailbox(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    ann, bob = await tenant.mailboxes(domain, "ann", "bob")
    for name in ("provisioning", "deleting", "ready"):
        alias = await tenant.alias(ann, name)
        await service.sql("UPDATE aliases SET status = ? WHERE id = ?", name, alias.id)
    await tenant.alias(bob, "desk")

    async def found_with(**filters: Any) -> set[str]:
        found, total = await items(tenant, "ListAliases", ListAliasesRequest(**filters))
        assert total == len(found)
        return local_parts_of(found)

    assert await found_with(status=Alias.PROVISIONING) == {"provisioning"}
    assert await found_with(status=Alias.DELETING) == {"deleting"}
    assert await found_with(status=Alias.READY) == {"ready", "desk"}
    assert await found_with(mailbox_id=ann.id, status=Alias.READY) == {"ready"}
    assert await found_with(mailbox_id=bob.id.upper()) == {"desk"}
    assert (
        await found_with(project_id=tenant.project_id)
        == await found_with()
        == {"provisioning", "deleting", "ready", "desk"}
    )


async def test_forwardings_are_filtered_by_status_mailbox_and_organization(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    ann, bob = await tenant.mailboxes(domain, "ann", "bob")
    for name in ("provisioning", "ready", "updating", "deleting"):
        forwarding = await tenant.forwarding(ann, f"{name}@elsewhere.example")
        await service.sql("UPDATE forwardings SET status = ? WHERE id = ?", name, forwarding.id)
    await tenant.forwarding(bob, "desk@elsewhere.example")

    async def found_with(**filters: Any) -> set[str]:
        found, total = await items(tenant, "ListForwardings", ListForwardingsRequest(**filters))
        assert total == len(found)
        return local_parts_of(found)

    assert await found_with(status=Forwarding.PROVISIONING) == {"provisioning"}
    assert await found_with(status=Forwarding.UPDATING) == {"updating"}
    assert await found_with(status=Forwarding.DELETING) == {"deleting"}
    assert await found_with(status=Forwarding.READY) == {"ready", "desk"}
    assert await found_with(mailbox_id=ann.id, status=Forwarding.READY) == {"ready"}
    assert await found_with(mailbox_id=bob.id.upper()) == {"desk"}
    everything = {"provisioning", "ready", "updating", "deleting", "desk"}
    assert await found_with(organization_id=tenant.organization_id.upper()) == await found_with() == everything
    both = ListForwardingsRequest(project_id=tenant.project_id, organization_id=tenant.organization_id)
    failure = await failure_of(tenant.stub.ListForwardings(both))
    assert failure.violations == {("organization_id", "CONSTRAINT")}
    limited = await service.tenant(
        organization_id=tenant.organization_id, project_id=await service.project(tenant.organization_id)
    )
    own = ListForwardingsRequest(organization_id=tenant.organization_id)
    assert await items(limited, "ListForwardings", own) == ([], 0), "a key's project limits it within its organization"


async def test_lists_are_filtered_by_project_and_domain(service: Service, tenant: Tenant) -> None:
    further = await service.project(tenant.organization_id)
    here, there = await tenant.domain(), await tenant.domain(project_id=further)
    one, two = await tenant.mailbox(here, "ann"), await tenant.mailbox(there, "bob")
    one_alias, two_alias = await tenant.alias(one, "info"), await tenant.alias(two, "desk")
    one_forwarding, two_forwarding = [await tenant.forwarding(each, "ann@elsewhere.example") for each in (one, two)]
    assert two.project_id == further
    for rpc, mine, other in (
        ("ListDomains", here, there),
        ("ListMailboxes", one, two),
        ("ListAliases", one_alias, two_alias),
        ("ListForwardings", one_forwarding, two_forwarding),
    ):
        for project_id, expected in ((tenant.project_id, mine), (further, other)):
            found, total = await items(tenant, rpc, REQUEST_TYPES[rpc](project_id=project_id))
            assert [item.id for item in found] == [expected.id]
            assert total == 1
    for domain, expected_mailbox in ((here, one), (there, two)):
        assert await items(tenant, "ListMailboxes", ListMailboxesRequest(domain_id=domain.id)) == (
            [expected_mailbox],
            1,
        )
    none = ListMailboxesRequest(domain_id=here.id, project_id=further)
    assert await items(tenant, "ListMailboxes", none) == ([], 0)


async def test_a_search_matches_any_part_of_an_address_literally(tenant: Tenant) -> None:
    domain = await tenant.domain(fresh_name("shop"))
    local_parts = ("a_b", "axb", "50$off", "50xoff", "back-slash", "o'neil", "per.son")
    await tenant.mailboxes(domain, *local_parts)

    async def found_with(search: str) -> set[str]:
        found, total = await items(tenant, "ListMailboxes", ListMailboxesRequest(search=search))
        assert total == len(found)
        return local_parts_of(found)

    for search, expected in {
        "_": {"a_b"},
        "A_B": {"a_b"},
        "$": {"50$off"},
        "0$O": {"50$off"},
        "50": {"50$off", "50xoff"},
        "k-": {"back-slash"},
        "%": set(),
        "/": set(),
        "'": {"o'neil"},
        "\\": set(),
        "*": set(),
        "b@SHOP": {"a_b", "axb"},
        domain.name: set(local_parts),
        "": set(local_parts),
        "ann": set(),
        "é": set(),
    }.items():
        assert await found_with(search) == expected, search


async def test_a_search_matches_any_part_of_a_domain_name(tenant: Tenant) -> None:
    names = {fresh_name("north-shop"), fresh_name("south-shop"), fresh_name("depot")}
    for name in names:
        await tenant.domain(name)

    async def found_with(search: str) -> set[str]:
        found, total = await items(tenant, "ListDomains", ListDomainsRequest(search=search))
        assert total == len(found)
        return set(map(attrgetter("name"), found))

    assert await found_with("SHOP") == {name for name in names if "shop" in name}
    assert await found_with("north-") == {name for name in names if "north" in name}
    assert await found_with("depot") == {name for name in names if "depot" in name}
    assert await found_with("%") == await found_with("_") == set()


async def test_a_search_finds_internationalized_names_as_people_type_them(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain("bücher.example")
    await tenant.domain("buecher.example")
    mailbox = await tenant.mailbox(domain, "ann")
    for search in ("bücher", "BÜCHER.Example", "bu\u0308cher", "xn--bcher-kva", "XN--BCHER-KVA.EXAMPLE"):
        found, total = await items(tenant, "ListDomains", ListDomainsRequest(search=search))
        assert ([each.id for each in found], total) == ([domain.id], 1), search
        found, total = await items(tenant, "ListMailboxes", ListMailboxesRequest(search=search))
        assert ([each.id for each in found], total) == ([mailbox.id], 1), search
    for search in ("ann@bücher.example", "ANN@BÜCHER", "nn@xn--bcher"):
        found, total = await items(tenant, "ListMailboxes", ListMailboxesRequest(search=search))
        assert ([each.id for each in found], total) == ([mailbox.id], 1), search
