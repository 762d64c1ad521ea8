"""Calls with an idempotency key: one effect, one response, and one encoding of it."""

import asyncio
from collections import Counter

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import CreateDomainRequest
from postroom.v1alpha1.mailbox_pb2 import (
    BatchCreateMailboxesRequest,
    GetMailboxRequest,
    Mailbox,
    UpdateMailboxRequest,
)
from postroomd.rpc.methods import Rpc
from tests.rpc.client import PASSWORD, Tenant, batch_request, fresh_name
from tests.rpc.failures import failure_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_calls_with_the_same_key_have_one_effect_and_one_response(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    request = batch_request(domain.id, "ann", "bob")
    metadata = (("idempotency-key", "first-try"),)
    calls = [tenant.stub.BatchCreateMailboxes(request, metadata=metadata) for _ in range(12)]
    responses = await asyncio.gather(*calls)
    assert len({response.SerializeToString() for response in responses}) == 1
    replayed = [dict(await call.trailing_metadata()).get("idempotency-replayed") for call in calls]
    assert Counter(replayed) == {None: 1, "true": 11}
    other = BatchCreateMailboxesRequest()
    other.CopyFrom(request)
    other.mailboxes.add(local_part="cat", password=PASSWORD)
    failure = await failure_of(tenant.stub.BatchCreateMailboxes(other, metadata=metadata))
    assert failure.violations == {("idempotency-key", "CONSTRAINT")}
    stranger = await service.tenant()
    unknown = await failure_of(stranger.stub.BatchCreateMailboxes(request, metadata=metadata))
    assert unknown.code is grpc.StatusCode.NOT_FOUND
    assert await service.sql("SELECT count(*) FROM mailboxes WHERE domain_id = ?", domain.id) == [(2,)]


async def test_a_failed_call_can_be_retried_with_its_key(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=1)
    domain = await tenant.domain()
    metadata = (("idempotency-key", "k" * 255),)
    request = batch_request(domain.id, "ann", "bob")
    failure = await failure_of(tenant.stub.BatchCreateMailboxes(request, metadata=metadata))
    assert failure.info.reason == "QUOTAS_EXCEEDED"
    await service.sql("UPDATE projects SET mailbox_quota = 2 WHERE id = ?", tenant.project_id)
    call = tenant.stub.BatchCreateMailboxes(request, metadata=metadata)
    assert len((await call).mailboxes) == 2
    assert "idempotency-replayed" not in dict(await call.trailing_metadata())


async def test_a_repeated_call_that_changed_nothing_has_no_effect_later_either(service: Service) -> None:
    tenant = await service.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    metadata = (("idempotency-key", "unchanged"),)
    monthly = UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=Mailbox.MONTHLY)
    first = await tenant.stub.UpdateMailbox(monthly, metadata=metadata)
    assert first == await tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=mailbox.id))  # it is monthly already
    assert await service.sql("SELECT length(answer) FROM idempotency_keys WHERE key = ?", "unchanged") == [(0,)]
    yearly = UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=Mailbox.YEARLY)
    changed = await tenant.stub.UpdateMailbox(yearly, metadata=(("idempotency-key", "changed"),))
    call = tenant.stub.UpdateMailbox(monthly, metadata=metadata)
    assert await call == changed  # the mailbox as it is now
    assert dict(await call.trailing_metadata())["idempotency-replayed"] == "true"
    assert await tenant.stub.GetMailbox(GetMailboxRequest(mailbox_id=mailbox.id)) == changed


async def test_empty_updates_under_ever_new_keys_store_no_response(service: Service) -> None:
    tenant = await service.tenant()
    mailbox = await tenant.mailbox(await tenant.domain(), "ann")
    for number in range(5):
        request = UpdateMailboxRequest(mailbox_id=mailbox.id)
        await tenant.stub.UpdateMailbox(request, metadata=(("idempotency-key", f"empty-{number}"),))
    ((octets, count),) = await service.sql(
        "SELECT sum(length(answer)), count(*) FROM idempotency_keys WHERE organization_id = ?", tenant.organization_id
    )
    assert (octets, count) == (0, 5)


@pytest.mark.parametrize("key", ["", "k" * 256, "two words"], ids=repr)
async def test_a_malformed_key_is_rejected_without_any_effect(service: Service, key: str) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    before = await service.dump()
    call = tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "ann"), metadata=(("idempotency-key", key),))
    failure = await failure_of(call)
    assert failure.violations == {("idempotency-key", "FORMAT")}
    assert await service.dump() == before


async def test_the_response_of_repeated_calls_is_encoded_once(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    encode = Rpc.encode

    def counting(rpc: Rpc, result: object) -> bytes:
        encoded.append(result)
        return encode(rpc, result)

    monkeypatch.setattr(Rpc, "encode", counting)
    request = CreateDomainRequest(name=fresh_name())
    metadata = (("idempotency-key", "the-key"),)
    first, second = [await tenant.stub.CreateDomain(request, metadata=metadata) for _ in range(2)]
    assert first == second
    assert len(encoded) == 1
