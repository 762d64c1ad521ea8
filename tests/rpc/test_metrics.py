"""What is counted of calls: each once, under the code that its caller saw, whatever became of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc
import pytest
import pytest_asyncio

from postroom.v1alpha1 import mailbox_pb2 as pb
from postroomd.domain.errors import StorageUnavailable, TooManyRequests
from postroomd.observability import metrics
from postroomd.rpc.authentication import Authenticator
from postroomd.rpc.cpu_pool import CpuPool
from tests.rpc.support import ABSENT_ID, PASSWORD, Service, Tenant, batch_request, failure_of, fresh_name, until
from tests.support.metrics import Scrape, here

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = 2
SERVICE = "postroom.v1alpha1.MailboxService"


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    return {"max_calls": str(PLACES), "admin_address": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def work() -> bool:
    return False  # it would write, and the writer is what these tests hold


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_SECONDS", 0.02)


@pytest_asyncio.fixture(loop_scope="module")
async def mailbox(tenant: Tenant) -> pb.Mailbox:
    return await tenant.mailbox(await tenant.domain(), "alice")


def endings(before: Scrape, method: str) -> dict[str, float]:
    """How the calls of an RPC have ended since, by code; as many as took some time, but for those refused."""
    now, labels = here(), {"grpc_service": SERVICE, "grpc_method": method}
    codes = [code.name for code in grpc.StatusCode]
    counted = {
        code: grown
        for code in codes
        if (grown := now.since(before, "grpc_server_handled_total", grpc_code=code, **labels))
    }
    took = now.since(before, "grpc_server_handling_seconds_count", **labels)
    assert took == sum(counted.values()) - counted.get("RESOURCE_EXHAUSTED", 0)
    return counted


async def counted(before: Scrape, method: str, expected: dict[str, float]) -> None:
    """Wait until calls are counted: a caller who goes away is told nothing of when that is."""

    async def look() -> bool:
        return sum(endings(before, method).values()) >= sum(expected.values())

    await until(look)
    assert endings(before, method) == expected


async def level(name: str, expected: float, **labels: str) -> None:
    """Wait until a level is seen to be so high."""

    async def look() -> bool:
        return here().value(name, **labels) == expected

    await until(look)


@asynccontextmanager
async def changes_held(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> AsyncIterator[list["asyncio.Task[pb.Mailbox]"]]:
    """All places for changes taken, by calls that wait for the writer."""
    request = pb.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=pb.Mailbox.SubscriptionPeriod.YEARLY)

    async def call() -> pb.Mailbox:
        return await tenant.stub.UpdateMailbox(request)

    async with service.held():
        calls = [asyncio.create_task(call()) for _ in range(PLACES)]
        await level("postroom_calls_in_progress", PLACES, kind="changes")
        yield calls
    await asyncio.gather(*calls, return_exceptions=True)


async def test_answers_and_failures_are_counted_by_code(service: Service, tenant: Tenant) -> None:
    before = here()
    for _ in range(3):
        await tenant.stub.ListMailboxes(pb.ListMailboxesRequest())
    await failure_of(tenant.stub.ListMailboxes(pb.ListMailboxesRequest(page_size=-1)))
    await failure_of(service.stub().ListMailboxes(pb.ListMailboxesRequest()))
    await failure_of(tenant.stub.GetMailbox(pb.GetMailboxRequest(mailbox_id=ABSENT_ID)))
    assert endings(before, "ListMailboxes") == {"OK": 3, "INVALID_ARGUMENT": 1, "UNAUTHENTICATED": 1}
    assert endings(before, "GetMailbox") == {"NOT_FOUND": 1}
    assert endings(before, "ListDomains") == {}


async def test_a_fault_of_ours_is_counted_as_internal(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError

    before = here()
    monkeypatch.setattr(Authenticator, "authenticate", fail)
    await failure_of(tenant.stub.ListMailboxes(pb.ListMailboxesRequest()))
    assert endings(before, "ListMailboxes") == {"INTERNAL": 1}


async def test_a_call_repeated_under_its_key_is_counted_as_answered(tenant: Tenant, mailbox: pb.Mailbox) -> None:
    before = here()
    for _ in range(2):
        request = pb.DeleteMailboxRequest(mailbox_id=mailbox.id)
        await tenant.stub.DeleteMailbox(request, metadata=(("idempotency-key", "once"),))
    assert endings(before, "DeleteMailbox") == {"OK": 2}


async def test_a_refused_call_is_counted_as_such_and_takes_no_time(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    before = here()
    async with changes_held(service, tenant, mailbox):
        await failure_of(tenant.stub.DeleteMailbox(pb.DeleteMailboxRequest(mailbox_id=mailbox.id)))
        assert endings(before, "DeleteMailbox") == {"RESOURCE_EXHAUSTED": 1}
        assert here().since(before, "postroom_calls_refused_total", kind="changes") == 1
        assert here().since(before, "postroom_calls_refused_total", kind="reads") == 0
        assert here().value("postroom_calls_in_progress", kind="reads") == 0
    assert endings(before, "UpdateMailbox") == {"OK": PLACES}
    await level("postroom_calls_in_progress", 0, kind="changes")


async def test_a_canceled_call_is_counted_once(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> None:
    before = here()
    async with changes_held(service, tenant, mailbox) as calls:
        calls[0].cancel()
        await counted(before, "UpdateMailbox", {"CANCELLED": 1})
    await counted(before, "UpdateMailbox", {"CANCELLED": 1, "OK": PLACES - 1})


async def test_a_call_whose_deadline_passes_is_counted_once(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    before = here()
    async with service.held():
        request = pb.DeleteMailboxRequest(mailbox_id=mailbox.id)
        await failure_of(tenant.stub.DeleteMailbox(request, timeout=0.2))
        await counted(before, "DeleteMailbox", {"CANCELLED": 1})


async def test_passwords_are_counted_one_by_one(tenant: Tenant) -> None:
    before = here()
    await tenant.mailboxes(await tenant.domain(), "a", "b", "c")
    assert here().since(before, "postroom_password_hash_seconds_count") == 3
    assert here().value("postroom_passwords_waiting") == 0
    assert here().since(before, "postroom_passwords_refused_total") == 0


async def test_passwords_that_there_is_no_room_for_are_counted_as_refused(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise TooManyRequests(1)

    domain, before = await tenant.domain(), here()
    monkeypatch.setattr(CpuPool, "run", refuse)
    await failure_of(tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "a", "b", "c")))
    assert here().since(before, "postroom_passwords_refused_total") == 3
    assert here().since(before, "postroom_password_hash_seconds_count") == 0
    assert here().value("postroom_passwords_waiting") == 0
    assert here().since(before, "postroom_calls_refused_total", kind="changes") == 0  # it had a place
    counted = here().since(
        before,
        "grpc_server_handled_total",
        grpc_service=SERVICE,
        grpc_method="BatchCreateMailboxes",
        grpc_code="RESOURCE_EXHAUSTED",
    )
    assert counted == 1


async def test_the_database_is_up_or_down_as_health_has_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise StorageUnavailable

    await level("postroom_database_up", 1)
    with monkeypatch.context() as patched:
        patched.setattr(type(service.repository), "ping", fail)
        await level("postroom_database_up", 0)
    await level("postroom_database_up", 1)


async def test_nothing_of_a_tenant_is_exposed(tenant: Tenant) -> None:
    name = fresh_name("secretive")
    domain = await tenant.domain(name)
    (mailbox,) = await tenant.mailboxes(domain, "alice")
    await failure_of(tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "alice")))
    exposed = here().text
    for private in (
        name,
        mailbox.email,
        mailbox.id,
        domain.id,
        PASSWORD,
        tenant.secret,
        tenant.access_key,
        tenant.organization_id,
        tenant.project_id,
    ):
        assert private not in exposed
