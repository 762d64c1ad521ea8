"""Errors that any call may end with: not_found, quotas, overload, unavailable storage, deadlines, internal errors."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure, RetryInfo

from postroom.v1alpha1.alias_pb2 import CreateAliasRequest, GetAliasRequest
from postroom.v1alpha1.domain_pb2 import CreateDomainRequest, Domain, GetDomainRequest
from postroom.v1alpha1.mailbox_pb2 import DeleteMailboxRequest, GetMailboxRequest, Mailbox
from tests.rpc.client import ABSENT_ID, Tenant, batch_request, fresh_name
from tests.rpc.failures import assert_status, failure_of, resource_info
from tests.rpc.service import Service, running_service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


@pytest.mark.parametrize(
    ("rpc", "resource_type", "request_of"),
    [
        ("GetDomain", "domain", lambda: GetDomainRequest(domain_id=ABSENT_ID)),
        ("GetMailbox", "mailbox", lambda: GetMailboxRequest(mailbox_id=ABSENT_ID)),
        ("GetAlias", "alias", lambda: GetAliasRequest(alias_id=ABSENT_ID)),
        ("CreateDomain", "project", lambda: CreateDomainRequest(name=fresh_name(), project_id=ABSENT_ID)),
        ("BatchCreateMailboxes", "domain", lambda: batch_request(ABSENT_ID, "ann")),
        ("CreateAlias", "mailbox", lambda: CreateAliasRequest(mailbox_id=ABSENT_ID, local_part="info")),
    ],
)
async def test_not_found_names_the_type_and_id_of_the_resource(
    owner: Tenant, rpc: str, resource_type: str, request_of: Callable[[], object]
) -> None:
    failure = await failure_of(getattr(owner.stub, rpc)(request_of()))
    assert_status(failure, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource_info(resource_type, ABSENT_ID, failure))


async def test_a_batch_beyond_the_quota_creates_nothing(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=3)
    domain = await tenant.domain()
    await tenant.mailboxes(domain, "ann", "bob")
    before = await service.dump()
    failure = await failure_of(tenant.mailboxes(domain, "cat", "dan"))
    violation = QuotaFailure.Violation(
        subject=f"project/{tenant.project_id}", description=failure.message, quota_metric="mailboxes", quota_value=3
    )
    assert_status(
        failure,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTAS_EXCEEDED",
        QuotaFailure(violations=[violation]),
        resource="mailboxes",
        quota="3",
        current="2",
    )
    assert await service.dump() == before
    assert len(await tenant.mailboxes(domain, "cat")) == 1


# --- too_many_requests


async def test_a_batch_that_would_queue_too_long_is_rejected_at_once(tmp_path: Path) -> None:
    slow = {"argon2_memory_kib": "65536", "argon2_time_cost": "1", "hash_threads": "1", "hash_wait_seconds": "0"}
    async with running_service(tmp_path, slow, with_worker=False) as service:
        tenant = await service.tenant()
        domain = await tenant.domain()
        batches = [
            asyncio.ensure_future(tenant.mailboxes(domain, *(f"{prefix}{number}" for number in range(100))))
            for prefix in "abc"
        ]
        (rejected,), hashing = await asyncio.wait(batches, return_when=asyncio.FIRST_COMPLETED)
        for failure in (await failure_of(rejected), await failure_of(tenant.domain())):
            assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert failure.info == ErrorInfo(reason="TOO_MANY_REQUESTS", domain="postroom")
            assert failure.only(RetryInfo).retry_delay.ToNanoseconds() >= 10**9
            assert len(failure.details) == 2
        for batch in hashing:
            assert not batch.done()
            batch.cancel()
        await asyncio.gather(*hashing, return_exceptions=True)
        assert await service.sql("SELECT * FROM mailboxes") == []
        assert len(await service.sql("SELECT * FROM domains")) == 1

        async def admitted() -> Mailbox | None:
            try:
                return await tenant.mailbox(domain, "late")
            except grpc.aio.AioRpcError:
                return None

        assert (await wait_until(admitted)).email == f"late@{domain.name}"


# --- unavailable, deadline_exceeded


async def test_a_locked_database_is_unavailable_until_it_is_unlocked(own_service: Service) -> None:
    tenant = await own_service.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    request = DeleteMailboxRequest(mailbox_id=mailbox.id)
    async with own_service.write_lock():
        writing = asyncio.ensure_future(failure_of(tenant.stub.DeleteMailbox(request)))
        assert await tenant.get_mailbox(mailbox) == mailbox, "reads are still served"
        failure = await writing
    retry = failure.only(RetryInfo)
    assert retry.retry_delay.ToNanoseconds() > 0
    assert_status(failure, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", retry)
    for word in ("sqlite", "locked", "busy", "mailboxes"):
        assert word not in failure.text.lower()
    assert await tenant.get_mailbox(mailbox) == mailbox
    assert (await tenant.stub.DeleteMailbox(request)).status == Mailbox.DELETION_SCHEDULED


async def test_a_write_past_its_deadline_takes_effect_entirely_or_not_at_all(own_service: Service) -> None:
    tenant = await own_service.tenant()
    domain = await tenant.domain()
    async with own_service.write_lock():
        late = await failure_of(tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "ann", "bob"), timeout=0.3))
    assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await tenant.mailbox(domain, "cat")
    names = {name for (name,) in await own_service.sql("SELECT local_part FROM addresses")}
    assert names in ({"cat"}, {"ann", "bob", "cat"})
    found: Domain = await tenant.get_domain(domain)
    assert found.mailbox_total_count == len(names)


# --- internal


async def test_an_unexpected_error_reports_only_its_request_id(own_service: Service) -> None:
    tenant = await own_service.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    await own_service.sql("ALTER TABLE aliases RENAME TO mislaid")
    metadata = (("x-request-id", "find-me"),)
    for call in (
        tenant.stub.GetAlias(GetAliasRequest(alias_id=ABSENT_ID), metadata=metadata),
        tenant.stub.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id, local_part="info"), metadata=metadata),
    ):
        failure = await failure_of(call)
        assert_status(failure, grpc.StatusCode.INTERNAL, "INTERNAL", request_id="find-me")
        assert failure.trailing["x-request-id"] == "find-me"
        assert failure.message == "internal error"
        for word in ("aliases", "mislaid", "table", "sqlite", "sqlalchemy", "error:", "traceback"):
            assert word not in failure.text.lower()
