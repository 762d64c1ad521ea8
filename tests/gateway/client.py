"""HTTP client of a gateway under test."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from yarl import URL

from tests.gateway.stub_service import StubService

TOKEN = "7f7a6a1e-0c3b-4b53-8a3e-5d2c0d9a1b11"
PREFIX = "/mailbox/v1alpha1"


@dataclass
class Response:
    """A complete HTTP response."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def violations(self) -> dict[str, str]:
        """Argument name -> reason; asserts that this is an invalid_arguments response."""
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
    ) -> Response:
        """Send a request. `path` is sent unchanged, but /domains, /mailboxes, /aliases and /batch get PREFIX."""
        if path.startswith(("/domains", "/mailboxes", "/aliases", "/batch")):
            path = PREFIX + path
        sent = list(headers) if isinstance(headers, list) else list((headers or {}).items())
        if self.token is not None:
            sent.append(("X-Auth-Token", self.token))
        if json is not None:
            data = orjson.dumps(json)
        has_body = json is not None or (method in ("POST", "PATCH", "PUT") and data is not None)
        if has_body and not any(name.lower() == "content-type" for name, _ in sent):
            sent.append(("Content-Type", "application/json"))
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        skip = ("Content-Type",)
        async with self.session.request(
            method, url, headers=sent, data=data, skip_auto_headers=skip, allow_redirects=False
        ) as response:
            return Response(response.status, response.headers, await response.read())


Start = Callable[..., Awaitable[Client]]
"""Starts a stub service, or takes `stub`, and a gateway, with fields of GatewayConfig as keyword arguments."""
