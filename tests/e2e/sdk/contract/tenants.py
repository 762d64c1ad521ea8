"""A key of another organization: to it, nothing of the first one's is there."""

from typing import Any
from uuid import uuid4

from tests.e2e.sdk.client import Sdk, eventually, is_refused, refused
from tests.e2e.sdk.instances import Instance
from tests.e2e.sdk.operations import BY_ID


async def require_empty(other: Sdk, domain: Any, mailbox: Any, arguments: dict[str, str]) -> None:
    assert (await other.list_domains(search=domain.name, **arguments)).total_count == 0
    assert (await other.list_domains(**arguments)).total_count == 0
    assert (await other.list_mailboxes(**arguments)).total_count == 0
    assert (await other.list_mailboxes(domain_id=domain.id, search="someone", **arguments)).total_count == 0
    assert (await other.list_aliases(**arguments)).total_count == 0
    assert (await other.list_aliases(mailbox_id=mailbox.id, **arguments)).total_count == 0


class Tenants:
    """What one organization sees of another."""

    async def test_another_tenant_sees_and_changes_nothing(self, sdk: Sdk, instance: Instance) -> None:
        domain = await sdk.create_domain(name=f"{sdk.label}.tenants.example")
        (mailbox,) = await sdk.create_mailboxes(domain.id, "someone")
        alias = await sdk.create_alias(mailbox_id=mailbox.id, local_part="alias")
        ids = {"domain": domain.id, "mailbox": mailbox.id, "alias": alias.id}
        domain = await sdk.get_domain(domain_id=domain.id)

        other = sdk.with_key(instance.shared_key())
        for operation in BY_ID:
            theirs = await refused(operation.call(other, ids[operation.resource]), 404, "not_found")
            nobodys = str(uuid4())
            missing = await refused(operation.call(other, nobodys), 404, "not_found")
            assert theirs.keys == {"resource": operation.resource, "resource_id": ids[operation.resource]}
            assert missing.keys == {"resource": operation.resource, "resource_id": nobodys}
            assert theirs.headers.keys() == missing.headers.keys()
        project_id = sdk.environment["SCW_DEFAULT_PROJECT_ID"]
        refusal = await refused(other.create_domain(name="theirs.example", project_id=project_id), 404, "not_found")
        assert refusal.keys == {"resource": "project", "resource_id": project_id}

        for arguments in ({}, {"project_id": project_id}):
            await require_empty(other, domain, mailbox, arguments)
        assert await sdk.get_domain(domain_id=domain.id) == domain
        assert await sdk.get_mailbox(mailbox_id=mailbox.id) == mailbox
        assert await sdk.get_alias(alias_id=alias.id) == alias

    async def test_two_tenants_register_one_name_and_one_proves_it(self, sdk: Sdk, instance: Instance) -> None:
        name = f"{sdk.label}.both.example"
        other = sdk.with_key(instance.shared_key())
        first, second = await sdk.create_domain(name=name), await other.create_domain(name=name)
        for client, domain, status in ((sdk, first, "ready"), (other, second, "validation_failed")):
            await client.validate_domain_records(domain_id=domain.id)
            settled = await client.wait_for_domain(domain_id=domain.id, options=client.soon())
            assert settled.status == status
        record = (await other.get_domain_records(domain_id=second.id)).domain_validation
        assert record.status == "invalid"
        assert record.error
        assert sdk.environment["SCW_DEFAULT_ORGANIZATION_ID"] not in record.error
        assert (await other.delete_domain(domain_id=second.id)).status == "deleting"
        await eventually(lambda: is_refused(other.get_domain(domain_id=second.id), 404))
