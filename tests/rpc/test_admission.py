"""Admission: calls beyond the slots of a process are rejected, and every slot is released."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc

from postroom.v1alpha1 import mailbox_pb2 as pb
from tests.rpc.client import ABSENT_ID, Tenant
from tests.rpc.failures import Failure, failure_of
from tests.rpc.service import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = 2
Change = asyncio.Task[pb.Mailbox]


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"max_calls": str(SLOTS)}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False  # it would write, and these tests hold the write lock


def start_change(tenant: Tenant, mailbox: pb.Mailbox, timeout: float | None = None) -> Change:
    """Start a change, which stays in progress while the write lock is held."""

    async def call() -> pb.Mailbox:
        period = pb.Mailbox.SubscriptionPeriod.YEARLY
        request = pb.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=period)
        return await tenant.stub.UpdateMailbox(request, timeout=timeout)

    return asyncio.create_task(call())


async def code_of(change: Change) -> grpc.StatusCode:
    """The status code of a change that fails."""
    return (await failure_of(change)).code


@asynccontextmanager
async def all_slots_taken(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> AsyncIterator[tuple[list[Change], Failure]]:
    """The changes that hold all slots, and the failure of one more change."""
    async with service.write_lock():
        changes = [start_change(tenant, mailbox) for _ in range(SLOTS + 1)]
        done, in_progress = await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
        (rejected,) = done
        yield list(in_progress), await failure_of(rejected)
    await asyncio.gather(*in_progress, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module")
async def mailbox(tenant: Tenant) -> pb.Mailbox:
    return await tenant.mailbox(await tenant.domain(), "alice")


async def test_a_call_beyond_the_slots_is_rejected_with_a_retry_delay(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with all_slots_taken(service, tenant, mailbox) as (in_progress, rejected):
        assert rejected.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (rejected.info.reason, rejected.info.domain) == ("TOO_MANY_REQUESTS", "postroom")
        assert rejected.only(RetryInfo).retry_delay.ToSeconds() >= 1
        assert rejected.trailing["x-request-id"]
    for changed in await asyncio.gather(*in_progress):
        assert changed.next_subscription_period == pb.Mailbox.SubscriptionPeriod.YEARLY


async def test_a_call_without_a_valid_key_takes_no_slot(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> None:
    request = pb.UpdateMailboxRequest(mailbox_id=mailbox.id)
    async with all_slots_taken(service, tenant, mailbox):
        for metadata in ((), (("x-auth-token", ABSENT_ID),)):
            rejected = await failure_of(service.stub(metadata).UpdateMailbox(request))
            assert rejected.info.reason == "DENIED_AUTHENTICATION"


async def test_reads_and_health_checks_need_no_slot_for_changes(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with all_slots_taken(service, tenant, mailbox):
        for _ in range(SLOTS + 1):  # an error releases its slot, too
            missing = await failure_of(tenant.stub.GetMailbox(pb.GetMailboxRequest(mailbox_id=ABSENT_ID)))
            assert missing.code is grpc.StatusCode.NOT_FOUND
        assert (await tenant.get_mailbox(mailbox)).id == mailbox.id
        health: Any = health_pb2_grpc.HealthStub(service.channel())
        checks = [health.Check(health_pb2.HealthCheckRequest()) for _ in range(3 * SLOTS)]
        for response in await asyncio.gather(*checks):
            assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_cancelled_call_releases_its_slot(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> None:
    async with all_slots_taken(service, tenant, mailbox) as (in_progress, _):
        in_progress[0].cancel()

        async def admitted() -> bool:
            return await code_of(start_change(tenant, mailbox, timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED

        await wait_until(admitted)


async def test_a_call_past_its_deadline_releases_its_slot(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with service.write_lock():
        codes = [await code_of(start_change(tenant, mailbox, timeout=0.2)) for _ in range(SLOTS)]
        assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * SLOTS

        async def admitted() -> bool:  # the client may see the deadline pass before the server does
            return await code_of(start_change(tenant, mailbox, timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED

        for _ in range(SLOTS):
            await wait_until(admitted)


async def test_all_slots_are_free_after_calls_that_succeed_or_fail(tenant: Tenant, mailbox: pb.Mailbox) -> None:
    for _ in range(SLOTS + 1):
        await tenant.delete_mailbox(mailbox)
        missing = await failure_of(tenant.stub.DeleteMailbox(pb.DeleteMailboxRequest(mailbox_id=ABSENT_ID)))
        assert missing.code is grpc.StatusCode.NOT_FOUND
