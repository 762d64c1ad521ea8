"""Many callers at once: quotas and addresses hold, batches stay whole, and every count equals a recount."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from time import monotonic
from typing import Any

import grpc
import pytest

from postroom.v1alpha1 import mailbox_pb2
from postroom.v1alpha1.domain_pb2 import DeleteDomainRequest, Domain, GetDomainRequest, ValidateDomainRecordsRequest
from postroom.v1alpha1.mailbox_pb2 import (
    DeleteMailboxRequest,
    Mailbox,
    RestoreMailboxRequest,
    UpdateMailboxRequest,
)
from tests.rpc.support import Service, Tenant, batch_request, failure_of, fresh_name, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def codes(calls: Sequence[Awaitable[Any]]) -> Counter[grpc.StatusCode]:
    """How many of the calls, made at once, end with each code."""
    ended: Counter[grpc.StatusCode] = Counter()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, grpc.aio.AioRpcError):
            ended[result.code()] += 1
        elif isinstance(result, BaseException):
            raise result
        else:
            ended[grpc.StatusCode.OK] += 1
    return ended


async def recounted(service: Service) -> None:
    """Assert that every count that is kept equals what there is, and that no address is without its owner."""
    wrong = await service.sql(
        """SELECT 'project', id FROM projects
            WHERE mailbox_count != (SELECT count(*) FROM mailboxes WHERE project_id = projects.id)
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
    assert wrong == []
    assert await service.sql("PRAGMA foreign_key_check") == []
    assert await service.sql("PRAGMA integrity_check") == [("ok",)]


def several_stubs(service: Service, tenant: Tenant, number: int) -> list[Any]:
    """Clients of one tenant, each with a connection of its own."""
    return [service.stub((*tenant.metadata, ("x-request-id", f"client-{n}"))) for n in range(number)]


async def test_racing_batches_never_pass_the_quota(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=50)
    domains = [await tenant.domain() for _ in range(2)]
    stubs = several_stubs(service, tenant, 8)
    batches = [
        stubs[number % 8].BatchCreateMailboxes(
            batch_request(domains[number % 2].id, *(f"n{number}.{item}" for item in range(7)))
        )
        for number in range(30)
    ]
    # 50 places take seven batches of 7: which ones is open, how many is not.
    assert await codes(batches) == {grpc.StatusCode.OK: 7, grpc.StatusCode.RESOURCE_EXHAUSTED: 23}
    assert await service.sql("SELECT count(*) FROM mailboxes WHERE project_id = ?", tenant.project_id) == [(49,)]
    failure = await failure_of(tenant.mailboxes(domains[0], "x", "y"))
    assert (failure.info.metadata["quota"], failure.info.metadata["current"]) == ("50", "49")
    assert await codes([tenant.mailbox(domains[0], name) for name in "abc"]) == {
        grpc.StatusCode.OK: 1,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 2,
    }
    await recounted(service)


async def test_of_twenty_clients_that_create_one_address_one_wins(service: Service) -> None:
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
        holders = await service.sql(
            "SELECT mailbox_id, alias_id FROM addresses WHERE domain_id = ? AND local_part = ?", domain.id, name
        )
        assert len(holders) == 1
    await recounted(service)


async def test_of_ten_clients_that_register_one_name_one_wins(service: Service) -> None:
    tenant = await service.tenant()
    name = fresh_name()
    calls = [tenant.domain(name) for _ in range(10)]
    assert await codes(calls) == {grpc.StatusCode.OK: 1, grpc.StatusCode.ALREADY_EXISTS: 9}
    assert len(await service.sql("SELECT id FROM domains WHERE name = ?", name)) == 1


async def test_a_client_that_hangs_up_leaves_a_whole_batch_or_none_of_it(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    size, tries = 20, 40
    began = monotonic()
    await tenant.mailboxes(domain, *(f"whole.{item}" for item in range(size)))
    whole = monotonic() - began

    async def hang_up(number: int) -> None:
        request = batch_request(domain.id, *(f"n{number}.{item}" for item in range(size)))
        calling = asyncio.ensure_future(service.stub(tenant.metadata).BatchCreateMailboxes(request))
        await asyncio.wait([calling], timeout=1.5 * whole * number / tries)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)

    for number in range(tries):
        await hang_up(number)
    await asyncio.gather(*(hang_up(number) for number in range(tries, tries + 10)))
    await tenant.mailbox(domain, "last")  # written after all that was begun before it
    rows = await service.sql("SELECT local_part FROM addresses WHERE domain_id = ?", domain.id)
    batches = Counter(local_part.partition(".")[0] for (local_part,) in rows)
    assert batches.pop("last") == 1
    assert set(batches.values()) == {size}
    assert len(batches) < 1 + tries + 10, "some were cut short"
    await recounted(service)
    assert await tenant.mailbox(domain, "after")


async def test_racing_changes_of_one_mailbox_leave_a_state_that_one_of_them_made(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.ready_domain()
    mailbox = await tenant.mailbox(domain, "ann")
    calls: list[Awaitable[Any]] = []
    for number in range(8):
        period = Mailbox.YEARLY if number % 2 else Mailbox.MONTHLY
        calls += [
            tenant.stub.DeleteMailbox(DeleteMailboxRequest(mailbox_id=mailbox.id)),
            tenant.stub.RestoreMailbox(RestoreMailboxRequest(mailbox_id=mailbox.id)),
            tenant.stub.UpdateMailbox(UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=period)),
        ]
    ended = await codes(calls)
    assert set(ended) <= {grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION}
    found = await tenant.stub.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox.id))
    assert found.status in {Mailbox.READY, Mailbox.DELETION_SCHEDULED}
    assert found.HasField("deletion_scheduled_at") == (found.status == Mailbox.DELETION_SCHEDULED)
    await recounted(service)


async def test_of_many_changes_under_one_etag_one_passes(service: Service) -> None:
    tenant = await service.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    calls = [
        tenant.stub.UpdateMailbox(
            UpdateMailboxRequest(mailbox_id=mailbox.id, new_password=f"another password {number}", etag=mailbox.etag)
        )
        for number in range(10)
    ]
    assert await codes(calls) == {grpc.StatusCode.OK: 1, grpc.StatusCode.ABORTED: 9}


async def test_mailboxes_created_while_their_domain_is_deleted_go_with_it(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.ready_domain()
    creating = [
        asyncio.ensure_future(tenant.mailboxes(domain, *(f"n{number}.{item}" for item in range(5))))
        for number in range(10)
    ]
    await asyncio.wait(creating, return_when=asyncio.FIRST_COMPLETED)
    await tenant.stub.DeleteDomain(DeleteDomainRequest(domain_id=domain.id))
    ended = await codes(creating)
    assert ended[grpc.StatusCode.OK] >= 1
    assert set(ended) <= {grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}

    async def gone() -> bool:
        return not await service.sql("SELECT id FROM domains WHERE id = ?", domain.id)

    assert await until(gone)
    assert await service.sql("SELECT mailbox_count FROM projects WHERE id = ?", tenant.project_id) == [(0,)]
    await recounted(service)


async def test_mailboxes_created_while_their_domain_becomes_ready_are_all_admitted(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    validating = asyncio.ensure_future(validate(tenant, domain))
    for number in range(20):
        await tenant.mailboxes(domain, *(f"n{number}.{item}" for item in range(3)))
    await validating

    async def admitted() -> bool:
        statuses = await service.sql("SELECT DISTINCT status FROM mailboxes WHERE domain_id = ?", domain.id)
        return statuses == [("ready",)]

    assert await until(admitted)
    found = await tenant.stub.GetDomain(GetDomainRequest(domain_id=domain.id))
    assert found.mailbox_total_count == 60
    await recounted(service)


async def validate(tenant: Tenant, domain: Domain) -> None:
    """Have the domain validated, and wait until it is ready."""
    await tenant.stub.ValidateDomainRecords(ValidateDomainRecordsRequest(domain_id=domain.id))
    await tenant.wait_for_domain(domain.id, Domain.READY)
