"""Headers of responses that the service sets by its trailing metadata."""

from typing import Any

import grpc
import pytest

from postroom.v1alpha1.alias_pb2 import Alias
from tests.gateway.client import Client

TRAILING = (
    ("x-ratelimit-limit", "50, 50;w=1"),
    ("x-ratelimit-remaining", "49"),
    ("x-ratelimit-reset", "1"),
    ("x-request-id", "of-the-service"),
    ("x-internal", "stays inside"),
)
HEADERS = {"X-Ratelimit-Limit": "50, 50;w=1", "X-Ratelimit-Remaining": "49", "X-Ratelimit-Reset": "1"}


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_rate_limit_headers_are_on_every_response(call: Client, code: grpc.StatusCode) -> None:
    async def behavior(_: Any, context: Any) -> Alias:
        if code is not grpc.StatusCode.OK:
            await context.abort(code, "", trailing_metadata=TRAILING)
        context.set_trailing_metadata(TRAILING)
        return Alias(etag="1a")

    call.stub.behaviors["GetAlias"] = behavior
    response = await call("GET", "/aliases/an-id")
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert "X-Internal" not in response.headers
    assert response.headers["X-Request-Id"] != "of-the-service"


async def test_without_trailing_metadata_there_are_no_such_headers(call: Client) -> None:
    response = await call("GET", "/aliases/an-id")
    assert not {*HEADERS, "Idempotency-Replayed"} & set(response.headers)
