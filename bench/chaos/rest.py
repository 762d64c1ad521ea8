"""A REST client of the gateway, which notes what it is answered."""

import asyncio
from types import TracebackType

import aiohttp
from google.protobuf import json_format

from bench.chaos.ledger import Ledger
from bench.chaos.writes import Write
from postroom.v1alpha1 import mailbox_pb2

PATIENCE_SECONDS = 30.0


class RestClient:
    """Sends batches to the gateway at HOST:PORT, with one key."""

    def __init__(self, address: str, token: str) -> None:
        timeout = aiohttp.ClientTimeout(PATIENCE_SECONDS)
        self._http = aiohttp.ClientSession(f"http://{address}", headers={"X-Auth-Token": token}, timeout=timeout)
        self.ledger = Ledger()

    async def __aenter__(self) -> "RestClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def send(self, batch: Write) -> int:
        """The HTTP status that a batch is answered with."""
        entry = self.ledger.sent(batch)
        body = json_format.MessageToDict(batch.request, preserving_proto_field_name=True)
        async with self._http.post("/mailbox/v1alpha1/batch-create-mailboxes", json=body) as response:
            answer = await response.json()
            if response.status == 200:
                known = mailbox_pb2.BatchCreateMailboxesResponse
                entry.acknowledge(known(mailboxes=[mailbox_pb2.Mailbox(id=one["id"]) for one in answer["mailboxes"]]))
            return response.status

    async def read_domains(self) -> None:
        """Have a small question answered. Raises ClientResponseError."""
        async with self._http.get("/mailbox/v1alpha1/domains?page_size=1") as response:
            response.raise_for_status()

    async def wait_until_ready(self) -> None:
        """Wait until the gateway reaches its service. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with self._http.get("/readyz") as response:
                    if response.status == 200:
                        return
                await asyncio.sleep(0.02)
