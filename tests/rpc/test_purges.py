"""Purges of mailboxes and domains: everything is removed, and addresses, names and quota are free again."""

from operator import attrgetter

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import Domain
from postroom.v1alpha1.mailbox_pb2 import Mailbox
from tests.rpc.client import Tenant
from tests.rpc.failures import failure_of
from tests.rpc.service import Service
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def mailbox_counts(service: Service, tenant: Tenant) -> tuple[int, int]:
    """The project's mailbox counter, and its number of rows."""
    ((counter,),) = await service.sql("SELECT mailbox_count FROM projects WHERE id = ?", tenant.project_id)
    ((rows,),) = await service.sql("SELECT count(*) FROM mailboxes WHERE project_id = ?", tenant.project_id)
    return counter, rows


async def test_a_mailbox_is_purged_after_its_retention(service: Service, tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox, other = await tenant.mailboxes(domain, "ann", "bob")
    alias = await tenant.alias(mailbox, "info")
    await tenant.delete_mailbox(mailbox)
    await service.sql("UPDATE mailboxes SET deletion_scheduled_at = 1, due_at = 1 WHERE id = ?", mailbox.id)

    async def purged() -> bool:
        return not await service.sql("SELECT id FROM mailboxes WHERE id = ?", mailbox.id)

    assert await wait_until(purged)
    assert (await failure_of(tenant.get_mailbox(mailbox))).code is grpc.StatusCode.NOT_FOUND
    assert (await failure_of(tenant.get_alias(alias))).code is grpc.StatusCode.NOT_FOUND
    assert await tenant.get_mailbox(other) == other
    assert await mailbox_counts(service, tenant) == (1, 1)
    assert (await tenant.get_domain(domain)).mailbox_total_count == 1
    assert len(await tenant.mailboxes(domain, "ann", "info")) == 2


async def test_a_deleted_domain_is_purged_with_all_its_resources(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=3)
    domain = await tenant.ready_domain()
    mailboxes = await tenant.mailboxes(domain, "ann", "bob", "eve")
    alias = await tenant.alias(mailboxes[0], "info")
    await tenant.delete_mailbox(mailboxes[1])
    assert await mailbox_counts(service, tenant) == (3, 3)
    beyond_quota = await failure_of(tenant.mailbox(domain, "max"))
    assert beyond_quota.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    deleted = await tenant.delete_domain(domain)
    assert (deleted.id, deleted.status) == (domain.id, Domain.DELETING)

    async def purged() -> bool:
        return not await service.sql("SELECT id FROM domains WHERE id = ?", domain.id)

    assert await wait_until(purged)
    assert (await failure_of(tenant.get_domain(domain))).code is grpc.StatusCode.NOT_FOUND
    assert (await failure_of(tenant.records(domain))).code is grpc.StatusCode.NOT_FOUND
    for mailbox in mailboxes:
        assert (await failure_of(tenant.get_mailbox(mailbox))).code is grpc.StatusCode.NOT_FOUND
    assert (await failure_of(tenant.get_alias(alias))).code is grpc.StatusCode.NOT_FOUND
    assert await mailbox_counts(service, tenant) == (0, 0)
    for table in ("domain_records", "mailboxes", "aliases", "addresses"):
        assert await service.sql(f"SELECT * FROM {table} WHERE domain_id = ?", domain.id) == [], table

    successor = await tenant.domain(domain.name)
    assert successor.id != domain.id
    created = await tenant.mailboxes(successor, "ann", "bob", "info")
    assert list(map(attrgetter("status"), created)) == [Mailbox.WAITING_DOMAIN] * 3
