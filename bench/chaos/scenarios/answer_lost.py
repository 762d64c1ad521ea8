"""The response is lost after the commit: a client that retries with its idempotency key causes one effect.

A response is lost between service and client or, on PostgreSQL, between database and service, which then can't know
whether its commit succeeded. A proxy in between drops the response after it was sent.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any
from uuid import uuid4

import grpc
from sqlalchemy import make_url

from bench.chaos.client import Client
from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import History, check
from bench.chaos.load import format_codes
from bench.chaos.outcome import Outcome
from bench.chaos.proxy import Proxy
from bench.chaos.scenarios.postgres_killed import EXPECTED_CODES
from bench.chaos.writes import Kind, Write, WriteGenerator
from bench.engine import Engine
from bench.process import Process
from tools.ports import free_address

COMMIT_REQUEST = b"COMMIT;"
COMMIT_RESPONSE = b"COMMIT\0"  # PostgreSQL's CommandComplete message
MAX_RETRY_SECONDS = 30.0
RETRY_SECONDS = 0.02


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Lose `count` responses."""
    address = free_address()
    async with AsyncExitStack() as proxies:
        client_proxy = await proxies.enter_async_context(Proxy(address).listening())
        settings = {}
        if harness.engine is Engine.POSTGRESQL:
            url = make_url(harness.url)
            database_proxy = await proxies.enter_async_context(Proxy(f"{url.host}:{url.port}").listening())
            proxied_url = url.set(port=int(database_proxy.address.rpartition(":")[2]))
            settings["POSTROOM_DATABASE_URL"] = proxied_url.render_as_string(hide_password=False)
        service = harness.service(address, **settings)
        await service.start()
        client = harness.client(client_proxy.address)
        trial = Trial(service, client, await harness.create_writes(client))
        for number in range(count):
            if harness.engine is Engine.POSTGRESQL and number % 2:
                await trial.lose_response_from_database(database_proxy)
            else:
                await trial.lose_response_to_client(client_proxy)
        await service.terminate()  # while its database proxy still runs
    outcome = trial.outcome
    outcome.violations += [*await check(harness, trial.history), *await integrity_errors(harness)]
    outcome.require(trial.replayed == count, f"only {trial.replayed} retries returned the stored response")
    outcome.require(set(trial.codes) <= EXPECTED_CODES, f"callers received {dict(trial.codes)}")
    from_database = count // 2 if harness.engine is Engine.POSTGRESQL else 0
    outcome.metrics = {"replayed": trial.replayed, "lost_at_database": from_database}
    outcome.summary = (
        f"{trial.replayed} replayed with one effect each ({from_database} lost between database and service);"
        f" callers received {format_codes(trial.codes)}"
    )
    return outcome


class Trial:
    """Writes whose first response is lost."""

    def __init__(self, service: Process, client: Client, writes: WriteGenerator) -> None:
        self.history = History()
        self.outcome = Outcome()
        self.codes: Counter[str] = Counter()
        self.replayed = 0
        self._service, self._client, self._writes = service, client, writes

    async def lose_response_to_client(self, proxy: Proxy) -> None:
        """Lose a response between the service, which logs the completed call, and the client."""
        await self._client.wait_until_ready()  # connected, so that only the response is held back
        write, key, request_id = self._writes.random(), uuid4().hex, uuid4().hex
        proxy.hold_responses()
        call = self._client.send(write, ("idempotency-key", key), ("x-request-id", request_id))
        record = await self._service.wait_for_log(
            lambda record: record["event"] == "call" and record.get("request_id") == request_id
        )
        self.outcome.require(record["code"] == "OK", f"{write.rpc} returned {record['code']}")
        proxy.disconnect()
        await self._retry(write, key, call)

    async def lose_response_from_database(self, proxy: Proxy) -> None:
        """Lose the response to a COMMIT between PostgreSQL and the service."""
        write, key = self._writes.random(), uuid4().hex
        proxy.hold_response_to(COMMIT_REQUEST, COMMIT_RESPONSE)
        call = self._client.send(write, ("idempotency-key", key))
        await proxy.wait_until_held()
        proxy.disconnect()
        await self._retry(write, key, call)

    async def _retry(self, write: Write, key: str, call: Any) -> None:
        """Repeat a call with its key until it succeeds."""
        entry = self.history.add(write)
        self.outcome.count += 1
        deadline = monotonic() + MAX_RETRY_SECONDS
        while monotonic() < deadline:
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                self.codes[error.code().name] += 1
                await asyncio.sleep(RETRY_SECONDS)
                call = self._client.send(write, ("idempotency-key", key))
                continue
            entry.acknowledge(response)
            if write.kind is Kind.MAILBOXES:
                self._writes.add_mailboxes(entry.ids)
            self.replayed += ("idempotency-replayed", "true") in set(await call.trailing_metadata())
            return
        self.outcome.violations.append(f"{write.rpc} failed for {MAX_RETRY_SECONDS:.0f} s: {dict(self.codes)}")
