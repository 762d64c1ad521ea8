"""Rejected calls are answered late and hold no slot meanwhile: repeating them at once takes nothing from others."""

import asyncio
from typing import Any

import grpc
import pytest

from postroom.v1alpha1 import mailbox_pb2
from postroomd import pacing
from postroomd.domain.errors import KeyRefusal, NotFound, TooManyRequests, Unauthenticated
from postroomd.rpc import rejections
from postroomd.rpc.admission import Admission
from postroomd.rpc.boundary import Boundary
from postroomd.rpc.client_address import ACCEPT_DETAILS, CLIENT_ADDRESS, GATEWAY_SECRET, ClientAddresses, Metadata
from postroomd.rpc.methods import Rpc
from postroomd.rpc.rejections import Rejections
from tests.rpc.test_boundary import NOW, SERVICE, StubAuthenticator, StubGrpcContext, StubRepository
from tests.support.waiting import wait_until

BUSY = TooManyRequests(1.0)
LONG_SECONDS = 600.0


class Aborted(Exception):
    """Ends a call, as grpc.aio does."""


class AbortableContext(StubGrpcContext):
    """A call that can be aborted."""

    async def abort(self, code: grpc.StatusCode, _details: str, _trailing: Any) -> None:
        raise Aborted(code)


def direct(seconds: float = LONG_SECONDS) -> Rejections:
    return Rejections(lambda _: False, seconds)


async def test_a_rejection_waits() -> None:
    delays = direct()
    waiting = asyncio.create_task(delays.delay(BUSY, (), None))
    await wait_until(lambda: delays.delayed == 1)
    assert not waiting.done()
    waiting.cancel()  # the client has gone
    await asyncio.gather(waiting, return_exceptions=True)
    assert delays.delayed == 0


async def test_invalid_keys_beyond_a_rate_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "UNAUTHENTICATED_PER_SECOND", 0.001)
    monkeypatch.setattr(pacing, "UNAUTHENTICATED_BURST", 1)
    delays, error = direct(), Unauthenticated(KeyRefusal.NOT_FOUND)
    async with asyncio.timeout(10):
        await delays.delay(error, (), None)
    waiting = asyncio.create_task(delays.delay(error, (), None))
    await wait_until(lambda: delays.delayed == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_other_errors_and_calls_of_gateways_are_answered_at_once() -> None:
    async with asyncio.timeout(10):
        await direct().delay(NotFound("mailbox", "1"), (), None)
        await Rejections(lambda _: True, LONG_SECONDS).delay(BUSY, (), None)


async def test_no_call_waits_until_its_deadline() -> None:
    async with asyncio.timeout(10):
        await direct().delay(BUSY, (), remaining_seconds=0.02)


async def test_the_number_of_waiting_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejections, "MAX_DELAYED", 3)
    delays = direct()
    waiting = [asyncio.create_task(delays.delay(BUSY, (), None)) for _ in range(3)]
    await wait_until(lambda: delays.delayed == 3)
    async with asyncio.timeout(10):
        await delays.delay(BUSY, (), None)
    for each in waiting:
        each.cancel()


async def test_a_rejected_call_holds_no_slot_while_it_waits() -> None:
    async def perform(_request: Any, _context: Any) -> Any:
        raise BUSY

    admission, delays = Admission(1), direct()
    boundary: Any = Boundary(
        repository=StubRepository(),  # type: ignore[arg-type]
        authenticator=StubAuthenticator(),
        clock=lambda: NOW,
        admission=admission,
        rejections=delays,
    )
    rpcs = {method.name: Rpc(perform, lambda _: mailbox_pb2.Mailbox()) for method in SERVICE.methods}
    handler: Any = boundary.handlers(SERVICE, rpcs)[f"/{SERVICE.full_name}/UpdateMailbox"]
    call = asyncio.create_task(handler.stream_unary(None, AbortableContext()))
    await wait_until(lambda: delays.delayed == 1)
    assert admission.in_progress("changes") == 0
    assert not call.done()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert admission.in_progress("changes") == 0  # not released twice
    at_once = direct(0.0)
    boundary = Boundary(
        repository=StubRepository(),  # type: ignore[arg-type]
        authenticator=StubAuthenticator(),
        clock=lambda: NOW,
        admission=admission,
        rejections=at_once,
    )
    handler = boundary.handlers(SERVICE, rpcs)[f"/{SERVICE.full_name}/UpdateMailbox"]
    with pytest.raises(Aborted):
        await handler.stream_unary(None, AbortableContext())
    assert admission.changes.free == admission.changes.slots


@pytest.mark.parametrize(
    ("secret", "metadata", "is_gateway"),
    [
        (None, (ACCEPT_DETAILS,), True),
        (None, (), False),
        ("right", ((GATEWAY_SECRET, "right"), (CLIENT_ADDRESS, "192.0.2.1")), True),
        ("right", ((GATEWAY_SECRET, "wrong"), ACCEPT_DETAILS), False),
        ("right", ((GATEWAY_SECRET, b"right"),), False),
        ("right", (ACCEPT_DETAILS,), False),
    ],
)
def test_with_a_secret_only_its_holders_are_gateways(secret: str | None, metadata: Metadata, is_gateway: bool) -> None:
    assert ClientAddresses(secret).is_gateway(metadata) is is_gateway
