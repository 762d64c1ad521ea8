"""Fifty clients create the same address at once: one has it, the others are told that it is taken.

Most ask for a mailbox and some for an alias: both draw on the same addresses.
"""

import asyncio
from collections import Counter

import grpc

from bench.chaos.arena import Arena
from bench.chaos.audit import unsoundness
from bench.chaos.client import Client
from bench.chaos.ledger import Ledger, held_against
from bench.chaos.outcome import Outcome
from bench.chaos.writes import Write

CLIENTS = 50
WITH_ALIASES = 5  # of them, at every other address
CALL_SECONDS = 60.0


async def run(arena: Arena, count: int) -> Outcome:
    """Have `count` addresses raced for."""
    service = arena.service()
    await service.start()
    clients = [arena.client(service.address) for _ in range(CLIENTS)]
    writes = await arena.writes(clients[0])
    ledger = Ledger()
    outcome = Outcome()

    async def ask(client: Client, write: Write) -> str:
        entry = ledger.sent(write)
        try:
            entry.acknowledge(await client.send(write, timeout=CALL_SECONDS))
        except grpc.aio.AioRpcError as error:
            entry.fail(error.code())
            return str(error.code().name)
        return "OK"

    host = writes.mailboxes(["host"])
    await ask(clients[0], host)
    (host_id,) = ledger.entries[0].ids
    codes: Counter[str] = Counter()
    for number in range(count):
        local_part = f"raced{number}"
        asking = [
            ask(
                client,
                writes.alias(host_id, local_part)
                if number % 2 and rank < WITH_ALIASES
                else writes.mailboxes([local_part]),
            )
            for rank, client in enumerate(clients)
        ]
        told = Counter(await asyncio.gather(*asking))
        codes += told
        outcome.count += 1
        outcome.require(
            told == {"OK": 1, "ALREADY_EXISTS": CLIENTS - 1}, f"the callers for {local_part} were told {dict(told)}"
        )
    refused_by_one_kept_by_another = winners_alone(ledger)
    outcome.broken += [*await held_against(arena, refused_by_one_kept_by_another), *await unsoundness(arena)]
    outcome.measured = {"calls": count * CLIENTS}
    outcome.seen = ", ".join(f"{number} {code}" for code, number in sorted(codes.items()))
    return outcome


def winners_alone(ledger: Ledger) -> Ledger:
    """The acknowledged writes: what was refused to one caller here is there for another."""
    return Ledger([entry for entry in ledger.entries if entry.ids])
