"""What the database itself says, asked beside the service: its contents, a recount of its counts, and its soundness."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.chaos.arena import Arena
from bench.engine import Engine
from postroomd.storage.drivers import open_engines

# Each counts what must not be.
RECOUNTS = {
    "projects whose mailbox_count is wrong": """
        SELECT count(*) FROM projects WHERE mailbox_count <>
        (SELECT count(*) FROM mailboxes WHERE mailboxes.project_id = projects.id)""",
    "domains whose mailbox_total_count is wrong": """
        SELECT count(*) FROM domains WHERE mailbox_total_count <>
        (SELECT count(*) FROM mailboxes WHERE mailboxes.domain_id = domains.id)""",
    "mailboxes without their address": """
        SELECT count(*) FROM mailboxes JOIN domains ON domains.id = mailboxes.domain_id
        LEFT JOIN addresses ON addresses.mailbox_id = mailboxes.id
        WHERE addresses.local_part IS NULL OR addresses.local_part || '@' || domains.name <> mailboxes.email""",
    "aliases without their address": """
        SELECT count(*) FROM aliases JOIN domains ON domains.id = aliases.domain_id
        LEFT JOIN addresses ON addresses.alias_id = aliases.id
        WHERE addresses.local_part IS NULL OR addresses.local_part || '@' || domains.name <> aliases.email""",
    "addresses of nothing, or of two": """
        SELECT count(*) FROM addresses WHERE (mailbox_id IS NULL) = (alias_id IS NULL)""",
    "addresses twice": """
        SELECT count(*) FROM (SELECT 1 FROM addresses GROUP BY domain_id, local_part HAVING count(*) > 1) AS twice""",
}

# Whether every index agrees with its table.
CHECK_INDEXES = """
    SELECT bt_index_check(pg_class.oid, true) FROM pg_class JOIN pg_am ON pg_am.oid = pg_class.relam
    WHERE pg_class.relkind = 'i' AND pg_am.amname = 'btree' AND pg_class.relnamespace = 'public'::regnamespace"""


@dataclass(frozen=True, slots=True)
class Contents:
    """Mailboxes and aliases, name -> id, and the ids of the mailboxes that are scheduled for deletion."""

    mailboxes: dict[str, str]
    aliases: dict[str, str]
    deletions: frozenset[str]


async def contents(arena: Arena) -> Contents:
    """What the tenant has."""
    async with _connected(arena) as connection:
        mailboxes = (await connection.execute(text("SELECT email, id, status FROM mailboxes"))).all()
        aliases = (await connection.execute(text("SELECT email, id FROM aliases"))).all()
    return Contents(
        mailboxes={row.email: str(row.id) for row in mailboxes},
        aliases={row.email.partition("@")[0]: str(row.id) for row in aliases},
        deletions=frozenset(str(row.id) for row in mailboxes if row.status == "deletion_scheduled"),
    )


async def miscounts(arena: Arena) -> list[str]:
    """Every count that a recount does not confirm."""
    async with _connected(arena) as connection:
        wrong = {what: await connection.scalar(text(statement)) for what, statement in RECOUNTS.items()}
    return [f"{number} {what}" for what, number in wrong.items() if number]


async def unsoundness(arena: Arena) -> list[str]:
    """What the engine's own check of its files complains of."""
    async with _connected(arena) as connection:
        if arena.engine is Engine.SQLITE:
            said = (await connection.execute(text("PRAGMA integrity_check"))).scalars().all()
            keys = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
            return [*(line for line in said if line != "ok"), *(f"foreign key: {row}" for row in keys)]
        try:
            await connection.execute(text("CREATE EXTENSION IF NOT EXISTS amcheck"))
            await connection.execute(text(CHECK_INDEXES))
        except DBAPIError as error:
            return [f"amcheck: {error.orig}"]
    return []


async def sessions(arena: Arena) -> list[str]:
    """The states of PostgreSQL's sessions on the database, but for the one that asks."""
    asking = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with _connected(arena) as connection:
        return [str(state) for state in (await connection.execute(text(asking))).scalars()]


@asynccontextmanager
async def _connected(arena: Arena) -> AsyncIterator[AsyncConnection]:
    engine = open_engines(arena.url, owner=False, pool_size=1).reader
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
