"""Direct access to the database: its contents, recounts of its counters, and integrity checks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.chaos.harness import ChaosHarness
from bench.engine import Engine
from postroomd.storage.drivers import open_engines
from postroomd.storage.schema import mailboxes

# Each statement counts rows that violate an invariant.
INVARIANTS = {
    "projects whose mailbox_count is wrong": """
        SELECT count(*) FROM projects WHERE mailbox_count <>
        (SELECT count(*) FROM mailboxes WHERE mailboxes.project_id = projects.id
         AND NOT (status IN ('deletion_scheduled', 'deleting') AND subscription_period IS NULL
                  AND period_anchor_at = created_at))""",
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
    "addresses of neither a mailbox nor an alias, or of both": """
        SELECT count(*) FROM addresses WHERE (mailbox_id IS NULL) = (alias_id IS NULL)""",
    "counts of quotas that are wrong": """
        SELECT count(*) FROM quota_usage WHERE count <> CASE resource
        WHEN 'domains' THEN (SELECT count(*) FROM domains WHERE domains.organization_id = subject_id)
        WHEN 'aliases' THEN (SELECT count(*) FROM aliases WHERE aliases.organization_id = subject_id
            OR aliases.mailbox_id = subject_id)
        ELSE (SELECT count(*) FROM idempotency_keys WHERE idempotency_keys.organization_id = subject_id) END""",
    "duplicate addresses": """
        SELECT count(*) FROM
        (SELECT 1 FROM addresses GROUP BY domain_id, local_part HAVING count(*) > 1) AS repeated""",
}

# Whether every B-tree index is consistent with its table (amcheck).
CHECK_INDEXES = """
    SELECT bt_index_check(pg_class.oid, true) FROM pg_class JOIN pg_am ON pg_am.oid = pg_class.relam
    WHERE pg_class.relkind = 'i' AND pg_am.amname = 'btree' AND pg_class.relnamespace = 'public'::regnamespace"""


@dataclass(frozen=True, slots=True)
class Contents:
    """Mailboxes by e-mail address and aliases by local part, each with its id; mailboxes scheduled for deletion."""

    mailboxes: dict[str, str]
    aliases: dict[str, str]
    deletions: frozenset[str]


async def read_contents(harness: ChaosHarness) -> Contents:
    """Return the tenant's mailboxes, aliases and scheduled deletions."""
    async with connect(harness) as connection:
        mailboxes = (await connection.execute(text("SELECT email, id, status FROM mailboxes"))).all()
        aliases = (await connection.execute(text("SELECT email, id FROM aliases"))).all()
    return Contents(
        mailboxes={row.email: str(row.id) for row in mailboxes},
        aliases={row.email.partition("@")[0]: str(row.id) for row in aliases},
        deletions=frozenset(str(row.id) for row in mailboxes if row.status == "deletion_scheduled"),
    )


@dataclass(frozen=True, slots=True)
class Dates:
    """The dates of a mailbox."""

    created_at: datetime
    period_started_at: datetime
    deletion_at: datetime | None


async def read_dates(harness: ChaosHarness) -> list[Dates]:
    """Return the dates of the tenant's mailboxes."""
    columns = mailboxes.c
    statement = select(columns.created_at, columns.subscription_period_started_at, columns.deletion_scheduled_at)
    async with connect(harness) as connection:
        return [Dates(*row) for row in await connection.execute(statement)]


async def invariant_violations(harness: ChaosHarness) -> list[str]:
    """Return every violated invariant with its number of rows."""
    async with connect(harness) as connection:
        counts = {what: await connection.scalar(text(statement)) for what, statement in INVARIANTS.items()}
    return [f"{count} {what}" for what, count in counts.items() if count]


async def integrity_errors(harness: ChaosHarness) -> list[str]:
    """Return the findings of the engine's own integrity check of its files."""
    async with connect(harness) as connection:
        if harness.engine is Engine.SQLITE:
            findings = (await connection.execute(text("PRAGMA integrity_check"))).scalars().all()
            foreign_keys = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
            return [*(line for line in findings if line != "ok"), *(f"foreign key: {row}" for row in foreign_keys)]
        try:
            await connection.execute(text("CREATE EXTENSION IF NOT EXISTS amcheck"))
            await connection.execute(text(CHECK_INDEXES))
        except DBAPIError as error:
            return [f"amcheck: {error.orig}"]
    return []


async def session_states(harness: ChaosHarness) -> list[str]:
    """Return the states of the database's PostgreSQL sessions, without the one that asks."""
    statement = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with connect(harness) as connection:
        return [str(state) for state in (await connection.execute(text(statement))).scalars()]


@asynccontextmanager
async def connect(harness: ChaosHarness) -> AsyncIterator[AsyncConnection]:
    """Yield a connection, which reads one snapshot."""
    engine = open_engines(harness.url, owner=False, pool_size=1).reader
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
