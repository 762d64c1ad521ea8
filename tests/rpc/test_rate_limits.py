"""Rate limits by API key and by organization."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo

from postroom.v1alpha1.domain_pb2 import ListDomainsRequest
from postroomd.domain.context import CallContext
from postroomd.rpc.authentication import Caller
from postroomd.rpc.rate_limits import RateLimits
from tests.rpc.client import Tenant
from tests.rpc.failures import failure_of
from tests.rpc.service import Service

KEY_LIMIT, ORGANIZATION_LIMIT = 3, 4


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return {"rate_limit": "1"}


@pytest.fixture(scope="module")
def with_worker() -> bool:
    return False


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def caller(key: str, organization: str) -> Caller:
    return Caller(CallContext(actor=key), False, key, organization, {})


def test_a_call_counts_against_its_key_and_its_organization() -> None:
    clock = Clock()
    limits = RateLimits(KEY_LIMIT, ORGANIZATION_LIMIT, clock)
    outcomes = [limits.take(caller(key, "one")) for key in ("a", "a", "a", "b", "b")]
    assert [(taken.limit, taken.remaining) for taken in outcomes] == [(3, 2), (3, 1), (3, 0), (4, 0), (4, 0)]
    assert [taken.retry_after_seconds > 0 for taken in outcomes] == [False] * 4 + [True]
    assert outcomes[-1].retry_after_seconds == pytest.approx(1 / ORGANIZATION_LIMIT, abs=0.01)
    assert limits.take(caller("c", "two")).retry_after_seconds == 0
    clock.now += 1
    assert limits.take(caller("a", "one")).remaining == KEY_LIMIT - 1


def test_the_metadata_has_the_format_of_the_public_api() -> None:
    taken = RateLimits(50, 0, Clock()).take(caller("a", "one"))
    assert dict(taken.trailing) == {
        "x-ratelimit-limit": "50, 50;w=1",
        "x-ratelimit-remaining": "49",
        "x-ratelimit-reset": "1",
    }


def test_without_limits_nothing_is_counted() -> None:
    assert not RateLimits(0, 0)


@pytest.mark.asyncio(loop_scope="module")
async def test_calls_beyond_the_limit_are_rejected_with_a_delay(service: Service, tenant: Tenant) -> None:
    calls = [tenant.stub.ListDomains(ListDomainsRequest()) for _ in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    rejected = [call for call, result in zip(calls, results, strict=True) if isinstance(result, grpc.aio.AioRpcError)]
    assert 0 < len(rejected) < 20
    for call in rejected:
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.info.reason == "TOO_MANY_REQUESTS"
        assert failure.only(RetryInfo).retry_delay.ToMilliseconds() > 0
        assert failure.trailing["x-ratelimit-remaining"] == "0"
    other = await service.tenant()
    allowed = other.stub.ListDomains(ListDomainsRequest())
    await allowed
    assert dict(await allowed.trailing_metadata())["x-ratelimit-limit"] == "1, 1;w=1"
