"""More calls than a process has places for: what is refused, how, and when there is room again."""

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
from tests.rpc.support import ABSENT_ID, Failure, Service, Tenant, failure_of, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = 2
Changing = asyncio.Task[pb.Mailbox]


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    return {"max_calls": str(PLACES)}


@pytest.fixture(scope="module")
def work() -> bool:
    return False  # it would write, and the writer is what these tests hold


def change(tenant: Tenant, mailbox: pb.Mailbox, timeout: float | None = None) -> Changing:
    """A change that is on its way; while the database is held, it stays in progress."""

    async def call() -> pb.Mailbox:
        period = pb.Mailbox.SubscriptionPeriod.YEARLY
        request = pb.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=period)
        return await tenant.stub.UpdateMailbox(request, timeout=timeout)

    return asyncio.create_task(call())


async def code_of(change: Changing) -> grpc.StatusCode:
    """How a change ends that can't succeed."""
    return (await failure_of(change)).code


@asynccontextmanager
async def full(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> AsyncIterator[tuple[list[Changing], Failure]]:
    """All places for changes taken, and the failure of the change that came on top."""
    async with service.held():
        changes = [change(tenant, mailbox) for _ in range(PLACES + 1)]
        done, waiting = await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = done
        yield list(waiting), await failure_of(refused)
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module")
async def mailbox(tenant: Tenant) -> pb.Mailbox:
    return await tenant.mailbox(await tenant.domain(), "alice")


async def test_what_comes_on_top_is_refused_and_told_when_to_come_again(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with full(service, tenant, mailbox) as (waiting, refused):
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (refused.info.reason, refused.info.domain) == ("TOO_MANY_REQUESTS", "postroom")
        assert refused.only(RetryInfo).retry_delay.ToSeconds() >= 1
        assert refused.trailing["x-request-id"]
    for changed in await asyncio.gather(*waiting):
        assert changed.next_subscription_period == pb.Mailbox.SubscriptionPeriod.YEARLY


async def test_a_refusal_comes_before_any_look_at_the_caller(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with full(service, tenant, mailbox):
        request = pb.DeleteMailboxRequest(mailbox_id="no id")
        refused = await failure_of(service.stub((("x-request-id", "mine"),)).DeleteMailbox(request))
        assert refused.info.reason == "TOO_MANY_REQUESTS"
        assert refused.trailing["x-request-id"] == "mine"


async def test_reads_and_health_checks_go_on(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> None:
    async with full(service, tenant, mailbox):
        for _ in range(PLACES + 1):  # an error gives its place back, too
            missing = await failure_of(tenant.stub.GetMailbox(pb.GetMailboxRequest(mailbox_id=ABSENT_ID)))
            assert missing.code is grpc.StatusCode.NOT_FOUND
        assert (await tenant.stub.GetMailbox(pb.GetMailboxRequest(mailbox_id=mailbox.id))).id == mailbox.id
        health: Any = health_pb2_grpc.HealthStub(service.channel())
        checks = [health.Check(health_pb2.HealthCheckRequest()) for _ in range(3 * PLACES)]
        for answer in await asyncio.gather(*checks):
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_that_is_canceled_gives_its_place_back(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with full(service, tenant, mailbox) as (waiting, _):
        waiting[0].cancel()

        async def admitted() -> bool:
            return await code_of(change(tenant, mailbox, timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED

        await until(admitted)


async def test_a_call_whose_deadline_passes_gives_its_place_back(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    async with service.held():
        codes = [await code_of(change(tenant, mailbox, timeout=0.2)) for _ in range(PLACES)]
        assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * PLACES

        async def admitted() -> bool:  # the client's clock may be first, and the server hear of it after
            return await code_of(change(tenant, mailbox, timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED

        for _ in range(PLACES):
            await until(admitted)


async def test_all_places_are_free_after_calls_that_succeed_or_fail(tenant: Tenant, mailbox: pb.Mailbox) -> None:
    for _ in range(PLACES + 1):
        await tenant.stub.DeleteMailbox(pb.DeleteMailboxRequest(mailbox_id=mailbox.id))
        missing = await failure_of(tenant.stub.DeleteMailbox(pb.DeleteMailboxRequest(mailbox_id=ABSENT_ID)))
        assert missing.code is grpc.StatusCode.NOT_FOUND
