"""Aliases: creation, change and deletion."""

import grpc
import pytest

from postroom.v1alpha1.alias_pb2 import Alias, CreateAliasRequest, DeleteAliasRequest, UpdateAliasRequest
from tests.rpc.client import Tenant
from tests.rpc.failures import failure_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_deleted_alias_frees_its_address(tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    created = await tenant.stub.CreateAlias(
        CreateAliasRequest(mailbox_id=mailbox.id, local_part="Info", description="the front desk")
    )
    assert created == Alias(
        id=created.id,
        email=f"info@{domain.name}",
        mailbox_id=mailbox.id,
        description="the front desk",
        status=Alias.READY,
        created_at=created.created_at,
        updated_at=created.created_at,
        etag=created.etag,
    )
    assert created.etag
    assert await tenant.get_alias(created) == created

    changed = await tenant.stub.UpdateAlias(UpdateAliasRequest(alias_id=created.id, description="the bar"))
    assert changed.description == "the bar"
    assert changed.updated_at.ToDatetime() > created.updated_at.ToDatetime()
    assert changed.created_at == created.created_at
    again = await tenant.stub.UpdateAlias(UpdateAliasRequest(alias_id=created.id, description="the bar"))
    assert again == changed, "the same description again changes nothing"
    cleared = await tenant.stub.UpdateAlias(UpdateAliasRequest(alias_id=created.id, description=""))
    assert cleared.description == ""

    taken = await failure_of(tenant.alias(mailbox, "info"))
    assert taken.code is grpc.StatusCode.ALREADY_EXISTS
    deleted = await tenant.stub.DeleteAlias(DeleteAliasRequest(alias_id=created.id))
    assert (deleted.id, deleted.status) == (created.id, Alias.DELETING)
    assert (await failure_of(tenant.get_alias(created))).code is grpc.StatusCode.NOT_FOUND
    assert (await tenant.mailbox(domain, "info")).email == f"info@{domain.name}"


async def test_a_catch_all_is_created_by_its_own_field_and_only_once(tenant: Tenant) -> None:
    domain = await tenant.domain()
    mailbox = await tenant.mailbox(domain, "ann")
    both = await failure_of(
        tenant.stub.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id, local_part="info", catch_all=True))
    )
    assert (both.code, both.violations) == (grpc.StatusCode.INVALID_ARGUMENT, {("local_part", "CONSTRAINT")})
    neither = await failure_of(tenant.stub.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id)))
    assert neither.violations == {("local_part", "REQUIRED")}

    created = await tenant.stub.CreateAlias(CreateAliasRequest(mailbox_id=mailbox.id, catch_all=True))
    assert (created.email, created.catch_all) == (f"@{domain.name}", True)
    assert await tenant.get_alias(created) == created
    assert not (await tenant.alias(mailbox, "info")).catch_all
    other = await tenant.mailbox(domain, "bob")
    second = await failure_of(tenant.stub.CreateAlias(CreateAliasRequest(mailbox_id=other.id, catch_all=True)))
    assert second.code is grpc.StatusCode.ALREADY_EXISTS
    await tenant.stub.DeleteAlias(DeleteAliasRequest(alias_id=created.id))
    again = await tenant.stub.CreateAlias(CreateAliasRequest(mailbox_id=other.id, catch_all=True))
    assert again.mailbox_id == other.id
