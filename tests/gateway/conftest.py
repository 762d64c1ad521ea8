from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from yarl import URL

from postroomd.gateway.app import SERVICES, GatewayConfig, open_gateway
from postroomd.gateway.http_server import listen
from tests.gateway.stub_service import StubService

TOKEN = "7f7a6a1e-0c3b-4b53-8a3e-5d2c0d9a1b11"
PREFIX = "/mailbox/v1alpha1"


@dataclass
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def violations(self) -> dict[str, str]:
        """Argument name -> reason; checks that the answer is the one of invalid arguments."""
        assert (self.status, self.json["type"]) == (400, "invalid_arguments"), self.raw
        return {each["argument_name"]: each["reason"] for each in self.json["details"]}


@dataclass
class Client:
    """Calls a gateway with an API key."""

    session: aiohttp.ClientSession
    port: int
    token: str | None = TOKEN
    stub: StubService = field(default_factory=lambda: StubService(()))

    async def __call__(
        self, method: str, path: str, *, json: object = None, headers: Any = None, data: Any = None
    ) -> Answer:
        """`path` is sent as it is; what starts with /domains, /mailboxes or /aliases gets the prefix before it."""
        if path.startswith(("/domains", "/mailboxes", "/aliases", "/batch")):
            path = PREFIX + path
        sent = list((headers or {}).items()) if not isinstance(headers, list) else list(headers)
        if self.token is not None:
            sent.append(("X-Auth-Token", self.token))
        if json is not None:
            data = orjson.dumps(json)
        if json is not None or (method in ("POST", "PATCH", "PUT") and data is not None):
            sent = [
                *sent,
                *([] if any(n.lower() == "content-type" for n, _ in sent) else [("Content-Type", "application/json")]),
            ]
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        skip = ("Content-Type",)
        async with self.session.request(
            method, url, headers=sent, data=data, skip_auto_headers=skip, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())


Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a stub service and a gateway in front of it, on ports of their own."""
    async with AsyncExitStack() as stack:

        async def starter(
            services: Sequence[ServiceDescriptor] = SERVICES, *, token: str | None = TOKEN, **config: Any
        ) -> Client:
            stub = StubService(services)
            await stub.start()
            stack.push_async_callback(stub.stop)
            opening = open_gateway(GatewayConfig(grpc_address=stub.address, **config), services)
            _, server = await stack.enter_async_context(opening)
            listener = await listen(server, "127.0.0.1", 0)
            stack.callback(listener.close)
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            return Client(session, listener.sockets[0].getsockname()[1], token, stub)

        yield starter


@pytest.fixture
async def call(start: Start) -> Client:
    """A client of a gateway that serves Postroom's own contract."""
    return await start()


@pytest.fixture
def logs() -> Any:
    """Every line that is logged during the test."""
    with structlog.testing.capture_logs() as captured:
        yield captured
