"""Lookups of the mail servers (p50) in each view by address or domain, on 1,000,000 mailboxes vs on 1,000.

The same addresses are looked up again and again, with their pages in the database's cache: what is compared is how much
longer the searches of larger indexes take. The seeded mailboxes have no forwardings: their lookup ends one search
earlier.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import asyncpg  # type: ignore[import-untyped]

from bench.engine import Engine
from bench.harness import Harness
from bench.latency import Call, median_ms
from bench.measurements import Measurement, alternate, at_most, compare
from bench.seed import ALIAS_EVERY, DOMAIN, alias_local_part, local_part
from postroomd.settings import SQLITE_PREFIX

LOOKUPS = 2_000
CACHE_KIB = 262_144

Query = Callable[[str], Awaitable[int]]
"""Runs a statement; returns the number of its rows."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A view, the statement that finds a mailbox or its domain in it, and how many rows that returns."""

    view: str
    statement: Callable[[int], str]
    rows: int


def _by_address(view: str, local_part_of: Callable[[int], str]) -> Callable[[int], str]:
    """Return the statement of an address, as the servers send it: with the address in the text."""
    return lambda number: (
        f"SELECT * FROM {view} WHERE domain = '{DOMAIN}' AND local_part = '{local_part_of(number)}'"  # noqa: S608
    )


LOOKUPS_OF_VIEWS = (
    Lookup("mail_v1_domains", lambda _: f"SELECT * FROM mail_v1_domains WHERE name = '{DOMAIN}'", 1),  # noqa: S608
    Lookup("mail_v1_users", _by_address("mail_v1_users", local_part), 1),
    Lookup("mail_v1_aliases", _by_address("mail_v1_aliases", alias_local_part), 1),
    Lookup("mail_v1_forwardings", _by_address("mail_v1_forwardings", local_part), 0),
    Lookup("mail_v1_dkim", lambda _: f"SELECT * FROM mail_v1_dkim WHERE domain = '{DOMAIN}'", 0),  # noqa: S608
)


async def run(harness: Harness) -> list[Measurement]:
    """One connection to each database, as a mail server has it. Raises ValueError for a wrong number of rows."""
    sizes = (harness.parameters.large, harness.parameters.small)
    queries = [(await _connect(harness, await harness.seeded(size)), size) for size in sizes]
    measurements = []
    for lookup in LOOKUPS_OF_VIEWS:
        calls = [await _call(query, lookup, size) for query, size in queries]
        for call in calls:
            await median_ms(call, LOOKUPS)
        large, small = await alternate(
            harness.parameters.runs, *(lambda call=call: median_ms(call, LOOKUPS) for call in calls)
        )
        title = f"{lookup.view}: p50 of a lookup on {sizes[0]:,} vs {sizes[1]:,} mailboxes"
        measurements.append(compare(title, "ms", large, small, at_most(1.5)))
    return measurements


async def _connect(harness: Harness, url: str) -> Query:
    if harness.engine is Engine.SQLITE:
        return _sqlite(harness, url.removeprefix(SQLITE_PREFIX))
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    harness.cleanups.push_async_callback(connection.close)

    async def query(statement: str) -> int:
        # Without parameters it is not prepared: planned each time, as Dovecot and Postfix have it.
        return int((await connection.execute(statement)).removeprefix("SELECT "))

    return query


def _sqlite(harness: Harness, path: str) -> Query:
    # The service holds the database open; otherwise each lookup of a read-only connection begins with an empty cache.
    service = sqlite3.connect(path)
    harness.cleanups.callback(service.close)
    service.execute("SELECT 1 FROM domains").fetchall()
    # Each statement is compiled, as the servers' clients do.
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, cached_statements=0)
    harness.cleanups.callback(connection.close)
    # The default of 2 MB holds the small database, but not the addresses that are looked up in the large one.
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    async def query(statement: str) -> int:
        return len(connection.execute(statement).fetchall())

    return query


async def _call(query: Query, lookup: Lookup, size: int) -> Call:
    random = Random(size)  # noqa: S311 - a fixed seed: the same addresses in each run
    statements = [lookup.statement(random.randrange(0, size, ALIAS_EVERY)) for _ in range(LOOKUPS)]
    found = await query(statements[0])
    if found != lookup.rows:
        raise ValueError(f"{lookup.view}: {found} rows instead of {lookup.rows}")
    return lambda number: query(statements[number])
