"""Forwardings: limits, conflicts with aliases, settings and deletion."""

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure, ResourceInfo

from postroom.v1alpha1.forwarding_pb2 import DeleteForwardingRequest, Forwarding, UpdateForwardingRequest
from postroom.v1alpha1.mailbox_pb2 import Mailbox
from tests.rpc.client import Tenant
from tests.rpc.failures import assert_precondition_failed, assert_status, failure_of, resource_info
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


async def test_a_sixth_forwarding_of_a_mailbox_exceeds_the_quota(
    service: Service, owner: Tenant, mailbox: Mailbox
) -> None:
    created = [await owner.forwarding(mailbox, f"{number}@elsewhere.example") for number in range(5)]
    before = await service.dump()
    failure = await failure_of(owner.forwarding(mailbox, "sixth@elsewhere.example"))
    violation = QuotaFailure.Violation(
        subject=f"mailbox/{mailbox.id}", description=failure.message, quota_metric="forwardings", quota_value=5
    )
    assert_status(
        failure,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTAS_EXCEEDED",
        QuotaFailure(violations=[violation]),
        resource="forwardings",
        quota="5",
        current="5",
    )
    assert "delete one first" in failure.message
    assert await service.dump() == before
    await owner.stub.DeleteForwarding(DeleteForwardingRequest(forwarding_id=created[0].id))
    assert (await owner.forwarding(mailbox, "sixth@elsewhere.example")).status == Forwarding.READY


async def test_a_conflict_names_the_forwarding_and_the_way_out(owner: Tenant, mailbox: Mailbox) -> None:
    forwarding = await owner.forwarding(mailbox, "Ann@elsewhere.example")
    other = await owner.forwarding(mailbox, "other@elsewhere.example")
    redirect = UpdateForwardingRequest(forwarding_id=other.id, email="ANN@elsewhere.example")
    for call in (owner.forwarding(mailbox, "ann@elsewhere.example"), owner.stub.UpdateForwarding(redirect)):
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        info = failure.only(ResourceInfo)
        assert (info.resource_type, info.resource_name, info.owner) == ("forwarding", forwarding.id, "email")
        text = f"Ann@elsewhere.example is the destination of forwarding {forwarding.id}, ready"
        assert failure.message == f"{text}: use it, or delete it"


async def test_an_alias_that_its_mailbox_forwards_to_is_a_conflict(owner: Tenant, mailbox: Mailbox) -> None:
    name, domain_name = f"a{mailbox.id[:8]}", mailbox.email.partition("@")[2]
    forwarding = await owner.forwarding(mailbox, f"{name}@{domain_name}")
    failure = await failure_of(owner.alias(mailbox, name))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    info = failure.only(ResourceInfo)
    assert (info.resource_type, info.resource_name, info.owner) == ("forwarding", forwarding.id, "local_part")
    await owner.stub.DeleteForwarding(DeleteForwardingRequest(forwarding_id=forwarding.id))
    assert (await owner.alias(mailbox, name)).mailbox_id == mailbox.id


async def test_forwardings_of_a_deleted_mailbox_can_be_read_and_deleted_only(
    service: Service, owner: Tenant, mailbox: Mailbox
) -> None:
    forwarding = await owner.forwarding(mailbox, "ann@elsewhere.example")
    await owner.change_forwarding_settings(mailbox, enabled=False)
    await owner.delete_mailbox(mailbox)
    assert await owner.get_forwarding(forwarding) == forwarding
    assert not (await owner.forwarding_settings(mailbox)).enabled
    before = await service.dump()
    redirect = UpdateForwardingRequest(forwarding_id=forwarding.id, email="bob@elsewhere.example")
    for call in (
        owner.stub.UpdateForwarding(redirect),
        owner.change_forwarding_settings(mailbox, enabled=True),
        owner.forwarding(mailbox, "bob@elsewhere.example"),
    ):
        assert_precondition_failed(await failure_of(call), f"mailbox/{mailbox.id}")
    assert await service.dump() == before
    deleted = await owner.stub.DeleteForwarding(DeleteForwardingRequest(forwarding_id=forwarding.id))
    assert deleted.status == Forwarding.DELETING


@pytest.mark.parametrize("of", ["mailbox", "forwarding"])
async def test_a_forwarding_cannot_be_changed_while_it_or_its_mailbox_is_purged(
    service: Service, owner: Tenant, mailbox: Mailbox, of: str
) -> None:
    forwarding = await owner.forwarding(mailbox, "ann@elsewhere.example")
    table, resource_id = {"mailbox": ("mailboxes", mailbox.id), "forwarding": ("forwardings", forwarding.id)}[of]
    await service.sql(f"UPDATE {table} SET status = 'deleting' WHERE id = ?", resource_id)
    request = UpdateForwardingRequest(forwarding_id=forwarding.id, email="bob@elsewhere.example")
    failure = await failure_of(owner.stub.UpdateForwarding(request))
    assert_status(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        resource_info(of, resource_id, failure),
        current_state="deleting",
    )


async def test_the_current_etag_of_the_settings_permits_one_change(owner: Tenant, mailbox: Mailbox) -> None:
    settings = await owner.forwarding_settings(mailbox)
    changed = await owner.change_forwarding_settings(mailbox, keep_copy=False, etag=settings.etag)
    assert changed.etag != settings.etag
    failure = await failure_of(owner.change_forwarding_settings(mailbox, enabled=False, etag=settings.etag))
    assert failure.code is grpc.StatusCode.ABORTED
    info = failure.only(ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("mailbox_forwarding", mailbox.id)
    assert (await owner.get_mailbox(mailbox)).etag == mailbox.etag, "the mailbox itself has not changed"
