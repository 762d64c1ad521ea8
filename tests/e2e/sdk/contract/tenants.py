"""Isolation of tenants: to another organization's key, a resource does not exist."""

from typing import Any
from uuid import uuid4

from tests.e2e.sdk.client import Sdk, expect_error, fails
from tests.e2e.sdk.instances import Instance
from tests.support.operations import OPERATIONS
from tests.support.waiting import wait_until


async def check_lists_are_empty(other: Sdk, domain: Any, mailbox: Any, arguments: dict[str, str]) -> None:
    assert (await other.list_domains(search=domain.name, **arguments)).total_count == 0
    assert (await other.list_domains(**arguments)).total_count == 0
    assert (await other.list_mailboxes(**arguments)).total_count == 0
    assert (await other.list_mailboxes(domain_id=domain.id, search="someone", **arguments)).total_count == 0
    assert (await other.list_aliases(**arguments)).total_count == 0
    assert (await other.list_aliases(mailbox_id=mailbox.id, **arguments)).total_count == 0
    assert (await other.list_forwardings(**arguments)).total_count == 0
    assert (await other.list_forwardings(mailbox_id=mailbox.id, **arguments)).total_count == 0


class Tenants:
    """Isolation of tenants."""

    async def test_another_tenant_reads_and_changes_nothing(self, sdk: Sdk, instance: Instance) -> None:
        domain = await sdk.create_domain(name=f"{sdk.label}.tenants.example")
        (mailbox,) = await sdk.create_mailboxes(domain.id, "someone")
        alias = await sdk.create_alias(mailbox_id=mailbox.id, local_part="alias")
        forwarding = await sdk.create_forwarding(mailbox_id=mailbox.id, email="ann@elsewhere.example")
        domain = await sdk.get_domain(domain_id=domain.id)

        other = sdk.with_key(instance.shared_key())
        project_id = sdk.environment["SCW_DEFAULT_PROJECT_ID"]
        ids = {"project": project_id, "domain": domain.id, "mailbox": mailbox.id, "alias": alias.id}
        ids["forwarding"] = forwarding.id
        for operation in OPERATIONS:
            resource_id, unknown_id = ids[operation.resource], str(uuid4())
            foreign = await expect_error(other.call_operation(operation, resource_id), 404, "not_found")
            unknown = await expect_error(other.call_operation(operation, unknown_id), 404, "not_found")
            assert foreign.keys == {"resource": operation.resource, "resource_id": resource_id}
            assert unknown.keys == {"resource": operation.resource, "resource_id": unknown_id}
            assert foreign.headers.keys() == unknown.headers.keys()

        for arguments in ({}, {"project_id": project_id}):
            await check_lists_are_empty(other, domain, mailbox, arguments)
        assert await sdk.get_domain(domain_id=domain.id) == domain
        assert await sdk.get_mailbox(mailbox_id=mailbox.id) == mailbox
        assert await sdk.get_alias(alias_id=alias.id) == alias
        assert await sdk.get_forwarding(forwarding_id=forwarding.id) == forwarding

    async def test_of_two_tenants_with_one_domain_name_one_validates_it(self, sdk: Sdk, instance: Instance) -> None:
        name = f"{sdk.label}.both.example"
        other = sdk.with_key(instance.shared_key())
        first, second = await sdk.create_domain(name=name), await other.create_domain(name=name)
        for client, domain, status in ((sdk, first, "ready"), (other, second, "validation_failed")):
            await client.validate_domain_records(domain_id=domain.id)
            settled = await client.wait_for_domain(domain_id=domain.id, options=client.fast_polling())
            assert settled.status == status
        record = (await other.get_domain_records(domain_id=second.id)).domain_validation
        assert record.status == "invalid"
        assert record.error
        assert sdk.environment["SCW_DEFAULT_ORGANIZATION_ID"] not in record.error
        assert (await other.delete_domain(domain_id=second.id)).status == "deleting"
        await wait_until(lambda: fails(other.get_domain(domain_id=second.id), 404))
