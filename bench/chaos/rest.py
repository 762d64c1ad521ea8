"""A REST client of the gateway that records the outcome of its writes."""

import asyncio
from types import TracebackType

import aiohttp
from google.protobuf import json_format

from bench.chaos.history import History
from bench.chaos.writes import Write
from postroom.v1alpha1 import mailbox_pb2

TIMEOUT_SECONDS = 30.0


class RestClient:
    """Sends batches to the gateway at HOST:PORT with one key."""

    def __init__(self, address: str, token: str) -> None:
        timeout = aiohttp.ClientTimeout(TIMEOUT_SECONDS)
        self._http = aiohttp.ClientSession(f"http://{address}", headers={"X-Auth-Token": token}, timeout=timeout)
        self.history = History()

    async def __aenter__(self) -> "RestClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def send(self, batch: Write) -> int:
        """Send a batch. Returns the HTTP status of the response."""
        entry = self.history.add(batch)
        body = json_format.MessageToDict(batch.request, preserving_proto_field_name=True)
        async with self._http.post("/mailbox/v1alpha1/batch-create-mailboxes", json=body) as response:
            content = await response.json()
            if response.status == 200:
                mailboxes = [mailbox_pb2.Mailbox(id=mailbox["id"]) for mailbox in content["mailboxes"]]
                entry.acknowledge(mailbox_pb2.BatchCreateMailboxesResponse(mailboxes=mailboxes))
            return response.status

    async def list_domains(self) -> None:
        """Make a cheap request. Raises ClientResponseError."""
        async with self._http.get("/mailbox/v1alpha1/domains?page_size=1") as response:
            response.raise_for_status()

    async def wait_until_ready(self) -> None:
        """Wait until the gateway reaches its service. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                async with self._http.get("/readyz") as response:
                    if response.status == 200:
                        return
                await asyncio.sleep(0.02)
