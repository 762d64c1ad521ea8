"""Conflicts: addresses and names that are in use, and etags that are stale."""

from uuid import uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, ResourceInfo

from postroom.v1alpha1.alias_pb2 import UpdateAliasRequest
from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import DeleteMailboxRequest, Mailbox
from tests.rpc.client import ALL_DETAILS, LONG_DETAILS, SHORT_DETAILS, Tenant, batch_request
from tests.rpc.failures import Failure, failure_of
from tests.rpc.requests import REQUEST_TYPES
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFLICT = ErrorInfo(reason="CONFLICT", domain="postroom")


def assert_conflict(failure: Failure, count: int = 1) -> None:
    metadata = {"message": failure.message, "count": str(count)}
    assert failure.info == ErrorInfo(reason="CONFLICT", domain="postroom", metadata=metadata)


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


async def test_a_conflict_names_every_address_in_use_and_its_resource(
    service: Service, owner: Tenant, domain: Domain
) -> None:
    taken = sorted(f"t{uuid4().hex}" for _ in range(3))
    first, second = await owner.mailboxes(domain, taken[0], taken[1])
    alias = await owner.alias(first, taken[2])
    before = await service.dump()
    failure = await failure_of(owner.mailboxes(domain, "unheard.of", taken[2].upper(), taken[0], taken[1]))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert_conflict(failure, 3)
    assert [(info.resource_type, info.resource_name) for info in failure.all(ResourceInfo)] == [
        ("alias", alias.id),
        ("mailbox", first.id),
        ("mailbox", second.id),
    ]
    assert [info.owner for info in failure.all(ResourceInfo)] == [f"mailboxes[{n}].local_part" for n in (1, 2, 3)]
    assert failure.all(ResourceInfo)[0].description == f"{alias.email} (ready)"
    assert len(failure.details) == 4
    for local_part in taken:
        assert f"{local_part}@{domain.name}" in failure.message
    assert "unheard.of" not in failure.message
    assert await service.dump() == before


async def test_a_conflict_can_name_a_hundred_addresses_in_use(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    local_parts = [f"{'x' * 60}{number}" for number in range(100)]
    taken = await tenant.mailboxes(domain, *local_parts)
    request = batch_request(domain.id, *local_parts)
    stub = service.stub(tenant.metadata + ALL_DETAILS, LONG_DETAILS)
    failure = await failure_of(stub.BatchCreateMailboxes(request))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    infos = failure.all(ResourceInfo)
    assert {info.resource_name for info in infos} == {mailbox.id for mailbox in taken}
    assert max(len(info.SerializeToString()) for info in infos) < 200, "a detail does not repeat the others"
    # A client with the lowest of the default limits, Java's, gets the details that fit.
    stub = service.stub(tenant.metadata, SHORT_DETAILS)
    truncated = await failure_of(stub.BatchCreateMailboxes(request))
    assert truncated.info.metadata["count"] == "100"
    assert truncated.code is grpc.StatusCode.ALREADY_EXISTS
    listed = truncated.all(ResourceInfo)
    assert 10 < len(listed) < 100
    assert truncated.info.metadata["omitted_count"] == str(100 - len(listed))
    assert listed[3].owner == "mailboxes[3].local_part"
    assert listed[3].description == f"{local_parts[3]}@{domain.name} (waiting_domain)"


async def test_an_alias_conflicts_with_a_mailbox_and_with_an_alias(owner: Tenant, domain: Domain) -> None:
    names = [f"t{uuid4().hex}" for _ in range(2)]
    mailbox = await owner.mailbox(domain, names[0])
    alias = await owner.alias(mailbox, names[1])
    for name, resource_type, resource_id in ((names[0], "mailbox", mailbox.id), (names[1], "alias", alias.id)):
        failure = await failure_of(owner.alias(mailbox, name))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert_conflict(failure)
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == (resource_type, resource_id)


async def test_an_organization_registers_a_name_once_in_any_spelling(owner: Tenant, domain: Domain) -> None:
    for name in (domain.name, domain.name.upper(), f"{domain.name}."):
        failure = await failure_of(owner.domain(name))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert_conflict(failure)
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == ("domain", domain.id)


async def test_a_conflict_says_what_has_the_address_and_what_to_do(owner: Tenant, domain: Domain) -> None:
    mailbox = await owner.mailbox(domain, f"t{uuid4().hex}")
    deleted = await owner.delete_mailbox(mailbox)
    failure = await failure_of(owner.mailbox(domain, mailbox.email.partition("@")[0]))
    until = deleted.deletion_scheduled_at.ToDatetime()
    expected = f"{mailbox.email} belongs to mailbox {mailbox.id}, deletion_scheduled until {until:%Y-%m-%dT%H:%M:%SZ}"
    assert failure.message == f"{expected}: restore it, or wait"


async def test_a_stale_etag_fails_every_change_that_carries_it(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    alias = await tenant.alias(mailbox, "info")
    forwarding = await tenant.forwarding(mailbox, "ann@elsewhere.example")
    for resource_type, resource_id, rpc, fields in (
        ("domain", domain.id, "DeleteDomain", {"domain_id": domain.id}),
        ("mailbox", mailbox.id, "UpdateMailbox", {"mailbox_id": mailbox.id, "subscription_period": Mailbox.YEARLY}),
        ("mailbox", mailbox.id, "UpdateMailbox", {"mailbox_id": mailbox.id, "new_password": "a good new password"}),
        ("mailbox", mailbox.id, "UpdateMailbox", {"mailbox_id": mailbox.id}),
        ("mailbox", mailbox.id, "DeleteMailbox", {"mailbox_id": mailbox.id}),
        ("alias", alias.id, "UpdateAlias", {"alias_id": alias.id, "description": "new"}),
        ("alias", alias.id, "DeleteAlias", {"alias_id": alias.id}),
        ("forwarding", forwarding.id, "UpdateForwarding", {"forwarding_id": forwarding.id, "email": "b@c.example"}),
        ("forwarding", forwarding.id, "UpdateForwarding", {"forwarding_id": forwarding.id}),
        ("forwarding", forwarding.id, "DeleteForwarding", {"forwarding_id": forwarding.id}),
        ("mailbox_forwarding", mailbox.id, "UpdateMailboxForwarding", {"mailbox_id": mailbox.id, "enabled": False}),
    ):
        before = await service.dump()
        failure = await failure_of(tenant.call(rpc, REQUEST_TYPES[rpc](etag="stale", **fields)))
        assert failure.code is grpc.StatusCode.ABORTED, rpc
        assert failure.info == CONFLICT
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name) == (resource_type, resource_id)
        assert await service.dump() == before


async def test_the_current_etag_permits_one_change(tenant: Tenant) -> None:
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    alias = await tenant.alias(mailbox, "info")
    update = UpdateAliasRequest(alias_id=alias.id, description="new", etag=alias.etag)
    changed = await tenant.stub.UpdateAlias(update)
    assert changed.etag != alias.etag
    assert (await failure_of(tenant.stub.UpdateAlias(update))).code is grpc.StatusCode.ABORTED
    deleted = await tenant.stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id, etag=mailbox.etag))
    assert deleted.status == Mailbox.DELETION_SCHEDULED
    again = DeleteMailboxRequest(mailbox_id=mailbox.id, etag=deleted.etag)
    assert await tenant.stub.DeleteMailbox(again) == deleted
