"""The delay before a retry, by which the service times the retries of gRPC clients."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import cast

import grpc
import pytest

from postroom.v1alpha1.domain_pb2 import ListDomainsRequest
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest
from postroomd.domain.errors import StorageUnavailable, TooManyRequests
from postroomd.rpc.status import retry_pushback
from tests.rpc.client import PASSWORD, Tenant
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")
Item = BatchCreateMailboxesRequest.MailboxParameters


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"rate_limit": "5"}


def pushback(error: grpc.RpcError) -> list[str]:
    trailing = cast("Iterable[tuple[str, str]]", error.trailing_metadata() or ())
    return [value for name, value in trailing if name == "grpc-retry-pushback-ms"]


async def test_a_retry_is_useless_while_a_quota_is_exhausted(service: Service) -> None:
    tenant = await service.tenant(mailbox_quota=0)
    domain = await tenant.domain()
    request = BatchCreateMailboxesRequest(domain_id=domain.id, mailboxes=[Item(local_part="ann", password=PASSWORD)])
    with pytest.raises(grpc.RpcError) as failed:
        await tenant.stub.BatchCreateMailboxes(request)
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert pushback(failed.value) == ["-1"]


async def test_a_rate_limited_call_says_when_to_retry(service: Service, tenant: Tenant) -> None:
    calls = [tenant.stub.ListDomains(ListDomainsRequest()) for _ in range(20)]
    with pytest.raises(grpc.RpcError) as failed:
        await asyncio.gather(*calls)
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    (delay,) = pushback(failed.value)
    assert 0 < int(delay) <= 1_000


async def test_delays_are_in_milliseconds() -> None:
    assert retry_pushback(StorageUnavailable(1.0)) == (("grpc-retry-pushback-ms", "1000"),)
    assert retry_pushback(TooManyRequests(0.25)) == (("grpc-retry-pushback-ms", "250"),)
    assert retry_pushback(RuntimeError()) == ()
