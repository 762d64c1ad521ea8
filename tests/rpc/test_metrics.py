"""Metrics: every call is counted once, under the status code that its caller gets."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import StringIO

import grpc
import pytest
import pytest_asyncio

from postroom.v1alpha1 import mailbox_pb2 as pb
from postroomd.domain.errors import StorageUnavailable, TooManyRequests
from postroomd.observability import metrics
from postroomd.rpc.authentication import Authenticator
from postroomd.rpc.cpu_pool import CpuPool
from tests.rpc.client import ABSENT_ID, PASSWORD, Tenant, batch_request, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.service import Service
from tests.support.metrics import Scrape, scrape_tests
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = 2
SERVICE = "postroom.v1alpha1.MailboxService"


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"max_calls": str(SLOTS), "admin_address": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False  # it would write, and these tests hold the write lock


@pytest.fixture(autouse=True)
def short_sampling_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_SECONDS", 0.02)


@pytest_asyncio.fixture(loop_scope="module")
async def mailbox(tenant: Tenant) -> pb.Mailbox:
    return await tenant.mailbox(await tenant.domain(), "alice")


def completed_since(before: Scrape, method: str) -> dict[str, float]:
    """The number of completed calls of an RPC by code. All but the rejected ones must have a duration."""
    now, labels = scrape_tests(), {"grpc_service": SERVICE, "grpc_method": method}
    codes = [code.name for code in grpc.StatusCode]
    completed = {
        code: increase
        for code in codes
        if (increase := now.increase(before, "grpc_server_handled_total", grpc_code=code, **labels))
    }
    durations = now.increase(before, "grpc_server_handling_seconds_count", **labels)
    assert durations == sum(completed.values()) - completed.get("RESOURCE_EXHAUSTED", 0)
    return completed


async def wait_for_completed(before: Scrape, method: str, expected: dict[str, float]) -> None:
    """Wait until calls are counted: a caller that cancels does not learn when that is."""

    async def counted() -> bool:
        return sum(completed_since(before, method).values()) >= sum(expected.values())

    await wait_until(counted)
    assert completed_since(before, method) == expected


async def wait_for_gauge(name: str, expected: float, **labels: str) -> None:
    """Wait until a gauge has a value."""

    async def has_value() -> bool:
        return scrape_tests().value(name, **labels) == expected

    await wait_until(has_value)


@asynccontextmanager
async def all_slots_taken(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> AsyncIterator[list["asyncio.Task[pb.Mailbox]"]]:
    """The changes that hold all slots, waiting for the write lock."""
    request = pb.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=pb.Mailbox.SubscriptionPeriod.YEARLY)

    async def call() -> pb.Mailbox:
        return await tenant.stub.UpdateMailbox(request)

    async with service.write_lock():
        calls = [asyncio.create_task(call()) for _ in range(SLOTS)]
        await wait_for_gauge("postroom_calls_in_progress", SLOTS, kind="changes")
        yield calls
    await asyncio.gather(*calls, return_exceptions=True)


async def test_calls_are_counted_by_status_code(service: Service, tenant: Tenant) -> None:
    before = scrape_tests()
    for _ in range(3):
        await tenant.stub.ListMailboxes(pb.ListMailboxesRequest())
    await failure_of(tenant.stub.ListMailboxes(pb.ListMailboxesRequest(page_size=-1)))
    await failure_of(service.stub().ListMailboxes(pb.ListMailboxesRequest()))
    await failure_of(tenant.stub.GetMailbox(pb.GetMailboxRequest(mailbox_id=ABSENT_ID)))
    assert completed_since(before, "ListMailboxes") == {"OK": 3, "INVALID_ARGUMENT": 1, "UNAUTHENTICATED": 1}
    assert completed_since(before, "GetMailbox") == {"NOT_FOUND": 1}
    assert completed_since(before, "ListDomains") == {}


async def test_calls_without_a_valid_key_are_counted_and_logged_by_sample(service: Service, logs: StringIO) -> None:
    before, start = scrape_tests(), len(logs.getvalue())
    for metadata in ((), (("x-auth-token", ABSENT_ID),)) * 10:
        await failure_of(service.stub(metadata).ListMailboxes(pb.ListMailboxesRequest()))
    assert scrape_tests().increase(before, "postroom_calls_unauthenticated_total") == 20
    events = [json.loads(line)["event"] for line in logs.getvalue()[start:].splitlines()]
    assert "call" not in events
    assert events.count("calls without a verified key") < 20


async def test_an_unexpected_error_is_counted_as_internal(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError

    before = scrape_tests()
    monkeypatch.setattr(Authenticator, "authenticate", fail)
    await failure_of(tenant.stub.ListMailboxes(pb.ListMailboxesRequest()))
    assert completed_since(before, "ListMailboxes") == {"INTERNAL": 1}


async def test_a_replayed_call_is_counted_as_ok(tenant: Tenant, mailbox: pb.Mailbox) -> None:
    before = scrape_tests()
    for _ in range(2):
        request = pb.DeleteMailboxRequest(mailbox_id=mailbox.id)
        await tenant.stub.DeleteMailbox(request, metadata=(("idempotency-key", "the-key"),))
    assert completed_since(before, "DeleteMailbox") == {"OK": 2}


async def test_a_rejected_call_is_counted_without_a_duration(
    service: Service, tenant: Tenant, mailbox: pb.Mailbox
) -> None:
    before = scrape_tests()
    async with all_slots_taken(service, tenant, mailbox):
        await failure_of(tenant.stub.DeleteMailbox(pb.DeleteMailboxRequest(mailbox_id=mailbox.id)))
        assert completed_since(before, "DeleteMailbox") == {"RESOURCE_EXHAUSTED": 1}
        assert scrape_tests().increase(before, "postroom_calls_refused_total", kind="changes") == 1
        assert scrape_tests().increase(before, "postroom_calls_refused_total", kind="reads") == 0
        assert scrape_tests().value("postroom_calls_in_progress", kind="reads") == 0
    assert completed_since(before, "UpdateMailbox") == {"OK": SLOTS}
    await wait_for_gauge("postroom_calls_in_progress", 0, kind="changes")


async def test_a_cancelled_call_is_counted_once(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> None:
    before = scrape_tests()
    async with all_slots_taken(service, tenant, mailbox) as calls:
        calls[0].cancel()
        await wait_for_completed(before, "UpdateMailbox", {"CANCELLED": 1})
    await wait_for_completed(before, "UpdateMailbox", {"CANCELLED": 1, "OK": SLOTS - 1})


async def test_a_call_past_its_deadline_is_counted_once(service: Service, tenant: Tenant, mailbox: pb.Mailbox) -> None:
    before = scrape_tests()
    async with service.write_lock():
        request = pb.DeleteMailboxRequest(mailbox_id=mailbox.id)
        await failure_of(tenant.stub.DeleteMailbox(request, timeout=1.0))  # by then it is in progress
        await wait_for_completed(before, "DeleteMailbox", {"CANCELLED": 1})


async def test_every_hashed_password_is_counted(tenant: Tenant) -> None:
    before = scrape_tests()
    await tenant.mailboxes(await tenant.domain(), "a", "b", "c")
    assert scrape_tests().increase(before, "postroom_password_hash_seconds_count") == 3
    assert scrape_tests().value("postroom_passwords_waiting") == 0
    assert scrape_tests().increase(before, "postroom_passwords_refused_total") == 0


async def test_every_rejected_password_is_counted(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async def reject(*_: object) -> None:
        raise TooManyRequests(1)

    domain, before = await tenant.domain(), scrape_tests()
    monkeypatch.setattr(CpuPool, "run", reject)
    await failure_of(tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "a", "b", "c")))
    assert scrape_tests().increase(before, "postroom_passwords_refused_total") == 3
    assert scrape_tests().increase(before, "postroom_password_hash_seconds_count") == 0
    assert scrape_tests().value("postroom_passwords_waiting") == 0
    assert (
        scrape_tests().increase(before, "postroom_calls_refused_total", kind="changes") == 0
    )  # the call itself had a slot
    counted = scrape_tests().increase(
        before,
        "grpc_server_handled_total",
        grpc_service=SERVICE,
        grpc_method="BatchCreateMailboxes",
        grpc_code="RESOURCE_EXHAUSTED",
    )
    assert counted == 1


async def test_the_database_gauge_follows_the_health_check(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise StorageUnavailable

    await wait_for_gauge("postroom_database_up", 1)
    with monkeypatch.context() as patched:
        patched.setattr(type(service.repository), "ping", fail)
        await wait_for_gauge("postroom_database_up", 0)
    await wait_for_gauge("postroom_database_up", 1)


async def test_metrics_expose_nothing_of_a_tenant(tenant: Tenant) -> None:
    name = fresh_name("secretive")
    domain = await tenant.domain(name)
    (mailbox,) = await tenant.mailboxes(domain, "alice")
    await failure_of(tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "alice")))
    exposition = scrape_tests().text
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
        assert private not in exposition
