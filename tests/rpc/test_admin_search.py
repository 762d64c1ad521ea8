"""Searches across tenants, the history of an address or a name, and locks by address."""

from collections.abc import Mapping
from typing import Any

import pytest

from postroom.admin.v1alpha1 import domain_pb2, mailbox_pb2
from postroom.v1alpha1 import domain_pb2 as tenant_domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from postroomd.rpc import admin_search
from tests.rpc.admin_client import ADMIN_OVERRIDES, Operator, new_operator
from tests.rpc.client import ABSENT_ID, Tenant, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.service import Service
from tests.support.operations import PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return ADMIN_OVERRIDES


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


async def new_mailboxes(tenant: Tenant, name: str, *local_parts: str) -> list[tenant_pb2.Mailbox]:
    domain = await tenant.stub.CreateDomain(tenant_domain_pb2.CreateDomainRequest(name=name))
    parameters = [
        tenant_pb2.BatchCreateMailboxesRequest.MailboxParameters(local_part=each, password=PASSWORD)
        for each in local_parts
    ]
    request = tenant_pb2.BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=parameters)
    return list((await tenant.stub.BatchCreateMailboxes(request)).mailboxes)


async def pages(admin: Operator, rpc: str, request: Any) -> list[list[Any]]:
    """The items of every page."""
    found = []
    while True:
        response = await admin.call(rpc, request)
        (items,) = [value for field, value in response.ListFields() if field.is_repeated] or [()]
        found.append(list(items))
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


@pytest.mark.parametrize("organizations", [1, 2, 200])
async def test_a_search_finds_the_matches_of_every_tenant_once(
    service: Service, organizations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_search, "ORGANIZATIONS_PER_PAGE", organizations)
    admin, name = await new_operator(service), fresh_name("everywhere")
    tenants = [await service.tenant() for _ in range(3)]
    created = [await new_mailboxes(tenant, name, "ann.search", "bob.search", "other") for tenant in tenants]
    expected = sorted(each.id for batch in created for each in batch if "search" in each.email)
    for page_size in (1, 2, 3, 100):
        request = mailbox_pb2.SearchMailboxesRequest(search=f"SEARCH@{name}", page_size=page_size)
        found = await pages(admin, "SearchMailboxes", request)
        assert all(len(page) <= page_size for page in found)
        assert sorted(each.mailbox.id for page in found for each in page) == expected
        domains = await pages(admin, "SearchDomains", domain_pb2.SearchDomainsRequest(search=name, page_size=page_size))
        assert sorted(each.organization_id for page in domains for each in page) == sorted(
            tenant.organization_id for tenant in tenants
        )
        one = mailbox_pb2.SearchMailboxesRequest(
            search=name, page_size=page_size, organization_id=tenants[1].organization_id
        )
        of_one = await pages(admin, "SearchMailboxes", one)
        assert sorted(each.mailbox.id for page in of_one for each in page) == sorted(each.id for each in created[1])


async def test_a_malformed_search_names_its_arguments(service: Service) -> None:
    admin = await new_operator(service)
    for rpc, request_type in (
        ("SearchMailboxes", mailbox_pb2.SearchMailboxesRequest),
        ("SearchDomains", domain_pb2.SearchDomainsRequest),
    ):
        failure = await failure_of(admin.call(rpc, request_type(search="ab", organization_id="x", page_size=-1)))
        assert failure.violations == {
            ("search", "CONSTRAINT"),
            ("organization_id", "FORMAT"),
            ("page_size", "CONSTRAINT"),
        }
        assert (await failure_of(admin.call(rpc, request_type()))).violations == {("search", "REQUIRED")}
        for token in ("x", "é", "bm8=", "MTIvbm8="):
            failure = await failure_of(admin.call(rpc, request_type(search="abc", page_token=token)))
            assert failure.violations == {("page_token", "FORMAT")}


async def test_a_mailbox_is_locked_and_unlocked_by_its_address_and_the_reason_is_in_its_history(
    service: Service, tenant: Tenant
) -> None:
    admin, name = await new_operator(service), fresh_name("locked")
    (ann,) = await new_mailboxes(tenant, name, "ann")
    for reason in ("abuse", "abuse", "court order"):
        locked = await admin.stub.LockMailbox(
            mailbox_pb2.LockMailboxRequest(address=f"Ann@{name.upper()}", reason=reason)
        )
        assert (locked.mailbox.id, locked.lock_reason) == (ann.id, reason)
    unlocked = await admin.stub.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(address=ann.email))
    assert not unlocked.HasField("lock_reason")
    history = await admin.transitions(ann.id)
    assert [(each.cause, each.reason) for each in history] == [
        ("create", ""),
        ("lock", "abuse"),
        ("lock", "court order"),
        ("unlock", ""),
    ]
    assert [each.HasField("reason") for each in history] == [False, True, True, False]


async def test_an_address_must_name_one_mailbox(service: Service, tenant: Tenant) -> None:
    admin, name = await new_operator(service), fresh_name("shared")
    ids = [(await new_mailboxes(each, name, "ann"))[0].id for each in (tenant, await service.tenant())]
    for rpc, fields in (("LockMailbox", {"reason": "abuse"}), ("UnlockMailbox", {})):
        request_type: Any = getattr(mailbox_pb2, f"{rpc}Request")
        failure = await failure_of(admin.call(rpc, request_type(address=f"ann@{name}", **fields)))
        assert failure.violations == {("address", "CONSTRAINT")}
        assert all(each in str(failure.details) for each in ids)
        failure = await failure_of(admin.call(rpc, request_type(address=f"nobody@{name}", **fields)))
        assert failure.code.name == "NOT_FOUND"
        failure = await failure_of(admin.call(rpc, request_type(address="nobody", **fields)))
        assert failure.violations == {("address", "FORMAT")}
        both = request_type(address=f"ann@{name}", mailbox_id=ABSENT_ID, **fields)
        assert (await failure_of(admin.call(rpc, both))).violations == {("address", "CONSTRAINT")}
        assert (await failure_of(admin.call(rpc, request_type(**fields)))).violations == {("mailbox_id", "REQUIRED")}


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
async def test_the_history_of_an_address_or_a_name_has_that_of_every_tenant(service: Service, page_size: int) -> None:
    admin, name = await new_operator(service), fresh_name("history")
    tenants = [await service.tenant() for _ in range(3)]
    mailboxes = [(await new_mailboxes(tenant, name, "ann", "bob"))[0] for tenant in tenants]
    for each in mailboxes[1:]:
        await admin.stub.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=each.id, reason="abuse"))
    request = mailbox_pb2.ListTransitionsRequest(address=f"Ann@{name.upper()}", page_size=page_size)
    listed = [each for page in await pages(admin, "ListTransitions", request) for each in page]
    assert listed == [each for id in sorted(each.id for each in mailboxes) for each in await admin.transitions(id)]
    assert len(listed) == 5
    assert {(each.organization_id, each.project_id, each.domain_id) for each in listed} == {
        (each.organization_id, each.project_id, each.domain_id) for each in mailboxes
    }

    of_name = domain_pb2.ListDomainTransitionsRequest(name=name.upper(), page_size=page_size)
    of_domains = [each for page in await pages(admin, "ListDomainTransitions", of_name) for each in page]
    assert [each.domain_id for each in of_domains] == sorted(each.domain_id for each in mailboxes)
    assert {each.organization_id for each in of_domains} == {each.organization_id for each in tenants}


async def test_a_history_needs_one_subject_and_a_token_of_its_own(service: Service, tenant: Tenant) -> None:
    admin, name = await new_operator(service), fresh_name("history")
    (ann,) = await new_mailboxes(tenant, name, "ann")
    cases: list[tuple[str, Any, str, str]] = [
        ("ListTransitions", mailbox_pb2.ListTransitionsRequest, "mailbox_id", "address"),
        ("ListDomainTransitions", domain_pb2.ListDomainTransitionsRequest, "domain_id", "name"),
    ]
    for rpc, request_type, id_field, name_field in cases:
        failure = await failure_of(admin.call(rpc, request_type()))
        assert failure.violations == {(id_field, "REQUIRED")}
        named = ann.email if name_field == "address" else name
        failure = await failure_of(admin.call(rpc, request_type(**{id_field: ABSENT_ID, name_field: named})))
        assert failure.violations == {(name_field, "CONSTRAINT")}
        failure = await failure_of(admin.call(rpc, request_type(**{name_field: "a b@"})))
        assert failure.violations == {(name_field, "FORMAT")}
        unknown = named.replace("history", "unknown")
        assert (await failure_of(admin.call(rpc, request_type(**{name_field: unknown})))).code.name == "NOT_FOUND"
        for token in ("x", "1", f"{ABSENT_ID}/-1", f"{ABSENT_ID}/99999999999", f"{ABSENT_ID}/1/2"):
            failure = await failure_of(admin.call(rpc, request_type(**{name_field: named, "page_token": token})))
            assert failure.violations == {("page_token", "FORMAT")}
    other = mailbox_pb2.ListTransitionsRequest(mailbox_id=ann.id, page_token=f"{ABSENT_ID}/1")
    assert (await failure_of(admin.call("ListTransitions", other))).violations == {("page_token", "FORMAT")}
