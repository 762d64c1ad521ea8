"""The commit is done and its answer is lost: a client that repeats the call under its key has one effect.

An answer is lost on its way from the service to the client, or, with PostgreSQL, from the database to the service,
which then can't know whether its own commit was done. A proxy stands on either way; what it drops has been sent.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import grpc
from sqlalchemy import make_url

from bench.chaos.arena import Arena, free_address
from bench.chaos.audit import unsoundness
from bench.chaos.client import Client
from bench.chaos.ledger import Ledger, held_against
from bench.chaos.outcome import Outcome
from bench.chaos.proxy import Proxy
from bench.chaos.scenarios.postgres_killed import TOLD
from bench.chaos.writes import Kind, Write, Writes
from bench.engine import Engine
from bench.process import Process

COMMIT_ASKED = b"COMMIT;"
COMMIT_DONE = b"COMMIT\0"  # PostgreSQL's CommandComplete
ATTEMPTS = 40
PAUSE_SECONDS = 0.02


async def run(arena: Arena, count: int) -> Outcome:
    """Lose `count` answers."""
    address = free_address()
    async with AsyncExitStack() as proxies:
        near = await proxies.enter_async_context(Proxy(address).listening())
        settings = {}
        if arena.engine is Engine.POSTGRESQL:
            url = make_url(arena.url)
            far = await proxies.enter_async_context(Proxy(f"{url.host}:{url.port}").listening())
            through = url.set(port=int(far.address.rpartition(":")[2]))
            settings["POSTROOM_DATABASE_URL"] = through.render_as_string(hide_password=False)
        service = arena.service(address, **settings)
        await service.start()
        client = arena.client(near.address)
        trial = Trial(service, client, await arena.writes(client))
        for number in range(count):
            if arena.engine is Engine.POSTGRESQL and number % 2:
                await trial.lose_at_database(far)
            else:
                await trial.lose_at_client(near)
        await service.terminate()  # before its proxy goes
    outcome = trial.outcome
    outcome.broken += [*await held_against(arena, trial.ledger), *await unsoundness(arena)]
    outcome.require(trial.replayed == count, f"only {trial.replayed} repeats were answered by the first outcome")
    outcome.require(set(trial.codes) <= TOLD, f"callers were told {dict(trial.codes)}")
    at_database = count // 2 if arena.engine is Engine.POSTGRESQL else 0
    told = ", ".join(f"{number} {code}" for code, number in sorted(trial.codes.items()))
    outcome.measured = {"replayed": trial.replayed, "lost_at_database": at_database}
    outcome.seen = f"{trial.replayed} replayed, one effect each ({at_database} lost behind the service); told {told}"
    return outcome


class Trial:
    """Writes whose first answer is lost, and what became of them."""

    def __init__(self, service: Process, client: Client, writes: Writes) -> None:
        self.ledger = Ledger()
        self.outcome = Outcome()
        self.codes: Counter[str] = Counter()
        self.replayed = 0
        self._service, self._client, self._writes = service, client, writes

    async def lose_at_client(self, proxy: Proxy) -> None:
        """Lose the answer to a write between the service, which logs that it has answered, and the client."""
        await self._client.wait_until_answered()  # connected, so that nothing but the answer is held
        write, key, request_id = self._writes.any(), uuid4().hex, uuid4().hex
        proxy.hold()
        call = self._client.send(write, ("idempotency-key", key), ("x-request-id", request_id))
        line = await self._service.said(lambda line: line["event"] == "call" and line.get("request_id") == request_id)
        self.outcome.require(line["code"] == "OK", f"{write.rpc} was answered {line['code']}")
        proxy.cut()
        await self._repeat(write, key, call)

    async def lose_at_database(self, proxy: Proxy) -> None:
        """Lose the answer to a commit between PostgreSQL and the service."""
        write, key = self._writes.any(), uuid4().hex
        proxy.hold_answer_to(COMMIT_ASKED, COMMIT_DONE)
        call = self._client.send(write, ("idempotency-key", key))
        await proxy.held()
        proxy.cut()
        await self._repeat(write, key, call)

    async def _repeat(self, write: Write, key: str, call: Any) -> None:
        """Repeat a call until it is answered."""
        entry = self.ledger.sent(write)
        self.outcome.count += 1
        for _ in range(ATTEMPTS):
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                self.codes[error.code().name] += 1
                await asyncio.sleep(PAUSE_SECONDS)
                call = self._client.send(write, ("idempotency-key", key))
                continue
            entry.acknowledge(response)
            if write.kind is Kind.MAILBOXES:
                self._writes.learn(entry.ids)
            self.replayed += ("idempotency-replayed", "true") in set(await call.trailing_metadata())
            return
        self.outcome.broken.append(f"{write.rpc} was not answered in {ATTEMPTS} attempts: {dict(self.codes)}")
