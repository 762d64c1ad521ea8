"""Changes that the status of a resource forbids: transient_state, precondition_failed and locked."""

from uuid import uuid4

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import Mailbox, UpdateMailboxRequest
from tests.rpc.client import Tenant
from tests.rpc.failures import assert_precondition_failed, assert_status, failure_of, resource_info
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATUSES = [value.name for value in Mailbox.Status.DESCRIPTOR.values if value.number]

each_update = pytest.mark.parametrize(
    "change", [{"subscription_period": Mailbox.YEARLY}, {"new_password": "a good new password"}]
)


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


# --- transient_state


@pytest.mark.parametrize("status", ["creating", "provisioning", "deleting"])
async def test_a_domain_in_a_transient_state_cannot_be_validated(service: Service, tenant: Tenant, status: str) -> None:
    domain = await tenant.domain()
    await service.sql("UPDATE domains SET status = ? WHERE id = ?", status, domain.id)
    before = await service.dump()
    failure = await failure_of(tenant.validate(domain))
    assert_status(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        resource_info("domain", domain.id, failure),
        current_state=status,
    )
    assert await service.dump() == before


@each_update
async def test_a_mailbox_that_is_being_purged_cannot_be_changed(
    service: Service, owner: Tenant, mailbox: Mailbox, change: dict[str, object]
) -> None:
    await service.sql("UPDATE mailboxes SET status = 'deleting' WHERE id = ?", mailbox.id)
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, **change)  # type: ignore[arg-type]
    failure = await failure_of(owner.stub.UpdateMailbox(request))
    assert_status(
        failure,
        grpc.StatusCode.FAILED_PRECONDITION,
        "TRANSIENT_STATE",
        resource_info("mailbox", mailbox.id, failure),
        current_state="deleting",
    )


# --- precondition_failed


@pytest.mark.parametrize("status", [name for name in STATUSES if name != "DELETION_SCHEDULED"])
async def test_only_a_deleted_mailbox_can_be_restored(
    service: Service, owner: Tenant, mailbox: Mailbox, status: str
) -> None:
    await service.sql("UPDATE mailboxes SET status = ? WHERE id = ?", status.lower(), mailbox.id)
    assert_precondition_failed(await failure_of(owner.restore_mailbox(mailbox)), f"mailbox/{mailbox.id}")


async def test_a_mailbox_cannot_be_restored_after_its_retention(
    service: Service, owner: Tenant, mailbox: Mailbox
) -> None:
    await owner.delete_mailbox(mailbox)
    await service.sql("UPDATE mailboxes SET deletion_scheduled_at = 1 WHERE id = ?", mailbox.id)
    assert_precondition_failed(await failure_of(owner.restore_mailbox(mailbox)), f"mailbox/{mailbox.id}")


async def test_the_password_of_a_deleted_mailbox_cannot_be_changed(
    service: Service, owner: Tenant, mailbox: Mailbox
) -> None:
    await owner.delete_mailbox(mailbox)
    before = await service.dump()
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, new_password="a good new password")
    assert_precondition_failed(await failure_of(owner.stub.UpdateMailbox(request)), f"mailbox/{mailbox.id}")
    assert await service.dump() == before


async def test_a_domain_with_mailboxes_in_use_is_deleted_only_with_force(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    ann, bob = await tenant.mailboxes(domain, "ann", "bob")
    await tenant.delete_mailbox(ann)
    before = await service.dump()
    failure = await failure_of(tenant.delete_domain(domain, force=False))
    assert_precondition_failed(failure, f"domain/{domain.id}", "resource_still_in_use")
    assert "1 mailbox " in failure.message
    assert "force=true" in failure.message
    assert await service.dump() == before
    await tenant.delete_mailbox(bob)
    assert (await tenant.delete_domain(domain, force=False)).status == Domain.DELETING


async def test_nothing_can_be_created_in_a_domain_that_is_being_deleted(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    deleted = await tenant.delete_domain(domain)
    assert deleted.status == Domain.DELETING
    found = await tenant.get_mailbox(mailbox)
    assert found.status == Mailbox.DELETING
    assert await tenant.delete_domain(domain) == deleted
    assert await tenant.delete_mailbox(mailbox) == found
    before = await service.dump()
    assert_precondition_failed(await failure_of(tenant.mailboxes(domain, "bob")), f"domain/{domain.id}")
    assert_precondition_failed(await failure_of(tenant.alias(mailbox, "info")), f"mailbox/{mailbox.id}")
    forwarding = tenant.forwarding(mailbox, "ann@elsewhere.example")
    assert_precondition_failed(await failure_of(forwarding), f"mailbox/{mailbox.id}")
    assert await service.dump() == before


@pytest.mark.parametrize("status", STATUSES)
async def test_only_five_statuses_of_a_mailbox_permit_new_aliases_and_forwardings(
    service: Service, owner: Tenant, mailbox: Mailbox, status: str
) -> None:
    await service.sql("UPDATE mailboxes SET status = ? WHERE id = ?", status.lower(), mailbox.id)
    name = f"a{uuid4().hex}"
    if status in {"READY", "LOCKED", "WAITING_DOMAIN", "WAITING_PAYMENT", "CREATING"}:
        assert (await owner.alias(mailbox, name)).mailbox_id == mailbox.id
        assert (await owner.forwarding(mailbox, f"{name}@elsewhere.example")).mailbox_id == mailbox.id
    else:
        assert_precondition_failed(await failure_of(owner.alias(mailbox, name)), f"mailbox/{mailbox.id}")
        forwarding = owner.forwarding(mailbox, f"{name}@elsewhere.example")
        assert_precondition_failed(await failure_of(forwarding), f"mailbox/{mailbox.id}")


# --- locked


@each_update
async def test_a_locked_mailbox_cannot_be_changed(
    service: Service, owner: Tenant, mailbox: Mailbox, change: dict[str, object]
) -> None:
    await service.sql("UPDATE mailboxes SET status = 'locked' WHERE id = ?", mailbox.id)
    before = await service.dump()
    request = UpdateMailboxRequest(mailbox_id=mailbox.id, **change)  # type: ignore[arg-type]
    failure = await failure_of(owner.stub.UpdateMailbox(request))
    assert_status(failure, grpc.StatusCode.FAILED_PRECONDITION, "LOCKED", resource_info("mailbox", mailbox.id, failure))
    assert await service.dump() == before
