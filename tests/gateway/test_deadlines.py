"""Deadlines that a caller sets: X-Request-Timeout and Grpc-Timeout."""

from typing import Any

import pytest

from tests.gateway.client import Client, Start

SECONDS, GRPC = "X-Request-Timeout", "Grpc-Timeout"


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ([], 15.0, 30.0),
        ([(SECONDS, "10")], 5.0, 10.0),
        ([(SECONDS, "9.5")], 5.0, 9.5),
        ([(SECONDS, "3600")], 15.0, 30.0),
        ([(GRPC, "10S")], 5.0, 10.0),
        ([(GRPC, "10000m")], 5.0, 10.0),
        ([(GRPC, "1H")], 15.0, 30.0),
        ([(SECONDS, "20"), (GRPC, "10000000u")], 5.0, 10.0),
    ],
)
async def test_the_call_has_the_shortest_deadline(start: Start, headers: Any, low: float, high: float) -> None:
    call = await start(call_timeout_seconds=30.0)
    assert (await call("GET", "/domains", headers=headers)).status == 200
    assert low < call.stub.calls[0].seconds_left <= high * 1.1  # gRPC rounds deadlines up on the wire


async def test_a_call_beyond_its_deadline_is_504(call: Client) -> None:
    call.stub.hold("ListDomains")
    response = await call("GET", "/domains", headers={SECONDS: "0.05"})
    assert (response.status, response.json["type"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    ("headers", "argument"),
    [
        *(([(SECONDS, value)], "x-request-timeout") for value in ("", "0", "0.0", "-1", "1e3", "5s", "nan", "1 1")),
        ([(SECONDS, "1"), (SECONDS, "2")], "x-request-timeout"),
        *(([(GRPC, value)], "grpc-timeout") for value in ("", "5", "S", "0m", "123456789S", "5s", "-5S", "1.5S")),
        ([(GRPC, "1S"), (GRPC, "2S")], "grpc-timeout"),
    ],
)
async def test_malformed_timeouts_are_rejected(call: Client, headers: Any, argument: str) -> None:
    response = await call("GET", "/domains", headers=headers)
    assert response.violations == {argument: "format"}
    assert not call.stub.calls
