"""Calls under an idempotency key: one effect, and one answer."""

import asyncio
from collections import Counter

import grpc
import pytest

from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest
from tests.rpc.support import PASSWORD, Service, batch_request, failure_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_call_repeated_under_its_idempotency_key_has_one_effect_and_one_answer(service: Service) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    request = batch_request(domain.id, "ann", "bob")
    keyed = (("idempotency-key", "first-try"),)
    calls = [tenant.stub.BatchCreateMailboxes(request, metadata=keyed) for _ in range(12)]
    answers = await asyncio.gather(*calls)
    assert len({answer.SerializeToString() for answer in answers}) == 1
    replayed = [dict(await call.trailing_metadata()).get("idempotency-replayed") for call in calls]
    assert Counter(replayed) == {None: 1, "true": 11}
    other = BatchCreateMailboxesRequest()
    other.CopyFrom(request)
    other.mailboxes.add(local_part="cat", password=PASSWORD)
    failure = await failure_of(tenant.stub.BatchCreateMailboxes(other, metadata=keyed))
    assert failure.violations == {("idempotency-key", "CONSTRAINT")}
    stranger = await service.tenant()
    unknown = await failure_of(stranger.stub.BatchCreateMailboxes(request, metadata=keyed))
    assert unknown.code is grpc.StatusCode.NOT_FOUND
    assert await service.sql("SELECT count(*) FROM mailboxes WHERE domain_id = ?", domain.id) == [(2,)]


async def test_a_call_that_failed_is_tried_again_under_its_idempotency_key(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=1)
    domain = await tenant.domain()
    keyed = (("idempotency-key", "k" * 255),)
    request = batch_request(domain.id, "ann", "bob")
    failure = await failure_of(tenant.stub.BatchCreateMailboxes(request, metadata=keyed))
    assert failure.info.reason == "QUOTAS_EXCEEDED"
    await service.sql("UPDATE projects SET mailbox_quota = 2 WHERE id = ?", tenant.project_id)
    call = tenant.stub.BatchCreateMailboxes(request, metadata=keyed)
    assert len((await call).mailboxes) == 2
    assert "idempotency-replayed" not in dict(await call.trailing_metadata())


@pytest.mark.parametrize("key", ["", "k" * 256, "two words"], ids=repr)
async def test_a_malformed_idempotency_key_is_told_and_nothing_is_done(service: Service, key: str) -> None:
    tenant = await service.tenant()
    domain = await tenant.domain()
    before = await service.dump()
    call = tenant.stub.BatchCreateMailboxes(batch_request(domain.id, "ann"), metadata=(("idempotency-key", key),))
    failure = await failure_of(call)
    assert failure.violations == {("idempotency-key", "FORMAT")}
    assert await service.dump() == before
