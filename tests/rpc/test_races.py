"""Concurrent calls: quotas and addresses hold, batches stay atomic, and every counter equals a count of the rows."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from time import monotonic
from typing import Any

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import (
    Mailbox,
    UpdateMailboxRequest,
)
from tests.rpc.client import Tenant, batch_request, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.service import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def codes(calls: Sequence[Awaitable[Any]]) -> Counter[grpc.StatusCode]:
    """The number of concurrent calls that end with each status code."""
    counts: Counter[grpc.StatusCode] = Counter()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, grpc.aio.AioRpcError):
            counts[result.code()] += 1
        elif isinstance(result, BaseException):
            raise result
        else:
            counts[grpc.StatusCode.OK] += 1
    return counts


async def assert_consistent(service: Service) -> None:
    """Assert that every counter equals the number of rows, and that every address has one owner."""
    inconsistent = await service.sql(
        """SELECT 'project', id FROM projects
            WHERE mailbox_count != (
                   SELECT count(*) FROM mailboxes
                    WHERE project_id = projects.id
                      AND NOT (status IN ('deletion_scheduled', 'deleting') AND subscription_period IS NULL
                               AND period_anchor_at = mailboxes.created_at))
               OR mailbox_count > mailbox_quota
        UNION ALL
        SELECT 'domain', id FROM domains
            WHERE mailbox_total_count != (SELECT count(*) FROM mailboxes WHERE domain_id = domains.id)
        UNION ALL
        SELECT 'mailbox', id FROM mailboxes
            WHERE 1 != (SELECT count(*) FROM addresses WHERE mailbox_id = mailboxes.id)
        UNION ALL
        SELECT 'alias', id FROM aliases
            WHERE 1 != (SELECT count(*) FROM addresses WHERE alias_id = aliases.id)
        UNION ALL
        SELECT 'address', local_part FROM addresses WHERE (mailbox_id IS NULL) = (alias_id IS NULL)"""
    )
    assert inconsistent == []
    assert await service.sql("PRAGMA foreign_key_check") == []
    assert await service.sql("PRAGMA integrity_check") == [("ok",)]


def several_stubs(service: Service, tenant: Tenant, number: int) -> list[Any]:
    """Clients of one tenant, each with its own connection."""
    return [service.stub((*tenant.metadata, ("x-request-id", f"client-{n}"))) for n in range(number)]


async def test_concurrent_batches_never_exceed_the_quota(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=50)
    domains = [await tenant.domain() for _ in range(2)]
    stubs = several_stubs(service, tenant, 8)
    batches = [
        stubs[number % 8].BatchCreateMailboxes(
            batch_request(domains[number % 2].id, *(f"n{number}.{item}" for item in range(7)))
        )
        for number in range(30)
    ]
    # Any seven batches of 7 fit into a quota of 50.
    assert await codes(batches) == {grpc.StatusCode.OK: 7, grpc.StatusCode.RESOURCE_EXHAUSTED: 23}
    assert await service.sql("SELECT count(*) FROM mailboxes WHERE project_id = ?", tenant.project_id) == [(49,)]
    failure = await failure_of(tenant.mailboxes(domains[0], "x", "y"))
    assert (failure.info.metadata["quota"], failure.info.metadata["current"]) == ("50", "49")
    assert await codes([tenant.mailbox(domains[0], name) for name in "abc"]) == {
        grpc.StatusCode.OK: 1,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 2,
    }
    await assert_consistent(service)


async def test_one_of_twenty_concurrent_creations_of_an_address_succeeds(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    owner = await tenant.mailbox(domain, "owner")
    stubs = several_stubs(service, tenant, 20)
    for round_number in range(5):
        name = f"wanted{round_number}"
        calls: list[Awaitable[Any]] = [
            stub.BatchCreateMailboxes(batch_request(domain.id, f"beside{number}.{round_number}", name))
            if number % 2
            else tenant.alias(owner, name)
            for number, stub in enumerate(stubs)
        ]
        assert await codes(calls) == {grpc.StatusCode.OK: 1, grpc.StatusCode.ALREADY_EXISTS: 19}
        owners = await service.sql(
            "SELECT mailbox_id, alias_id FROM addresses WHERE domain_id = ? AND local_part = ?", domain.id, name
        )
        assert len(owners) == 1
    await assert_consistent(service)


async def test_one_of_ten_concurrent_registrations_of_a_name_succeeds(service: Service) -> None:
    tenant = await service.tenant()
    name = fresh_name()
    calls = [tenant.domain(name) for _ in range(10)]
    assert await codes(calls) == {grpc.StatusCode.OK: 1, grpc.StatusCode.ALREADY_EXISTS: 9}
    assert len(await service.sql("SELECT id FROM domains WHERE name = ?", name)) == 1


async def test_a_batch_of_a_cancelled_call_is_created_entirely_or_not_at_all(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    size, tries = 20, 40
    start = monotonic()
    await tenant.mailboxes(domain, *(f"whole.{item}" for item in range(size)))
    batch_seconds = monotonic() - start

    async def cancel_early(number: int) -> None:
        request = batch_request(domain.id, *(f"n{number}.{item}" for item in range(size)))
        call = asyncio.ensure_future(service.stub(tenant.metadata).BatchCreateMailboxes(request))
        await asyncio.wait([call], timeout=1.5 * batch_seconds * number / tries)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    for number in range(tries):
        await cancel_early(number)
    await asyncio.gather(*(cancel_early(number) for number in range(tries, tries + 10)))
    await tenant.mailbox(domain, "last")  # written after every write that started before it
    rows = await service.sql("SELECT local_part FROM addresses WHERE domain_id = ?", domain.id)
    batches = Counter(local_part.partition(".")[0] for (local_part,) in rows)
    assert batches.pop("last") == 1
    assert set(batches.values()) == {size}
    assert len(batches) < 1 + tries + 10, "some calls were cancelled before their write"
    await assert_consistent(service)
    assert await tenant.mailbox(domain, "after")


async def test_concurrent_changes_of_a_mailbox_leave_a_consistent_status(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.ready_domain()
    mailbox = await tenant.mailbox(domain, "ann")
    calls: list[Awaitable[Any]] = []
    for number in range(8):
        period = Mailbox.YEARLY if number % 2 else Mailbox.MONTHLY
        calls += [
            tenant.delete_mailbox(mailbox),
            tenant.restore_mailbox(mailbox),
            tenant.stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=period)),
        ]
    counts = await codes(calls)
    assert set(counts) <= {grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION}
    found = await tenant.get_mailbox(mailbox)
    assert found.status in {Mailbox.READY, Mailbox.DELETION_SCHEDULED}
    assert found.HasField("deletion_scheduled_at") == (found.status == Mailbox.DELETION_SCHEDULED)
    await assert_consistent(service)


async def test_one_of_ten_concurrent_changes_with_one_etag_succeeds(service: Service) -> None:
    tenant = await service.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    calls = [
        tenant.stub.UpdateMailbox(
            UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=f"another password {number}", etag=mailbox.etag)
        )
        for number in range(10)
    ]
    assert await codes(calls) == {grpc.StatusCode.OK: 1, grpc.StatusCode.ABORTED: 9}


async def test_mailboxes_created_during_a_domains_deletion_are_purged_with_it(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.ready_domain()
    creating = [
        asyncio.ensure_future(tenant.mailboxes(domain, *(f"n{number}.{item}" for item in range(5))))
        for number in range(10)
    ]
    await asyncio.wait(creating, return_when=asyncio.FIRST_COMPLETED)
    await tenant.delete_domain(domain)
    counts = await codes(creating)
    assert counts[grpc.StatusCode.OK] >= 1
    assert set(counts) <= {grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}

    async def purged() -> bool:
        return not await service.sql("SELECT id FROM domains WHERE id = ?", domain.id)

    assert await wait_until(purged)
    assert await service.sql("SELECT mailbox_count FROM projects WHERE id = ?", tenant.project_id) == [(0,)]
    await assert_consistent(service)


async def test_mailboxes_created_during_a_domains_validation_become_ready(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    validating = asyncio.ensure_future(validate(tenant, domain))
    for number in range(20):
        await tenant.mailboxes(domain, *(f"n{number}.{item}" for item in range(3)))
    await validating

    async def all_ready() -> bool:
        statuses = await service.sql("SELECT DISTINCT status FROM mailboxes WHERE domain_id = ?", domain.id)
        return statuses == [("ready",)]

    assert await wait_until(all_ready)
    found = await tenant.get_domain(domain)
    assert found.mailbox_total_count == 60
    await assert_consistent(service)


async def validate(tenant: Tenant, domain: Domain) -> None:
    """Validate the domain, and wait until it is ready."""
    await tenant.validate(domain)
    await tenant.wait_for_domain(domain.id, Domain.READY)
