"""Fifty clients create the same address concurrently: one succeeds, the others get ALREADY_EXISTS.

Most create a mailbox and some an alias, since both share one set of addresses.
"""

import asyncio
from collections import Counter

import grpc

from bench.chaos.client import Client
from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import History, check
from bench.chaos.load import format_codes
from bench.chaos.outcome import Outcome
from bench.chaos.writes import Write

CLIENTS = 50
ALIAS_CLIENTS = 5  # at every second address
CALL_TIMEOUT_SECONDS = 60.0


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Have all clients create each of `count` addresses."""
    service = harness.service()
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    writes = await harness.create_writes(clients[0])
    history = History()
    outcome = Outcome()

    async def send(client: Client, write: Write) -> str:
        entry = history.add(write)
        try:
            entry.acknowledge(await client.send(write, timeout=CALL_TIMEOUT_SECONDS))
        except grpc.aio.AioRpcError as error:
            entry.fail(error.code())
            return str(error.code().name)
        return "OK"

    await send(clients[0], writes.mailboxes(["host"]))
    (mailbox_id,) = history.entries[0].ids
    codes: Counter[str] = Counter()
    for number in range(count):
        local_part = f"raced{number}"
        aliases = ALIAS_CLIENTS if number % 2 else 0
        calls = [
            send(client, writes.alias(mailbox_id, local_part) if rank < aliases else writes.mailboxes([local_part]))
            for rank, client in enumerate(clients)
        ]
        results = Counter(await asyncio.gather(*calls))
        codes += results
        outcome.count += 1
        outcome.require(
            results == {"OK": 1, "ALREADY_EXISTS": CLIENTS - 1}, f"the callers for {local_part} got {dict(results)}"
        )
    # A rejected write's address is there, because another client's write created it.
    acknowledged = History([entry for entry in history.entries if entry.ids])
    outcome.violations += [*await check(harness, acknowledged), *await integrity_errors(harness)]
    outcome.metrics = {"calls": count * CLIENTS}
    outcome.summary = format_codes(codes)
    return outcome
