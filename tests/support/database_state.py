"""Direct reads of a database, and checks of its invariants, independent of the repository under test."""

import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroomd.domain.forwardings import MAX_FORWARDINGS
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Mailbox, MailboxStatus
from postroomd.storage import schema as t
from postroomd.storage.sql.rows import columns_of, from_row

Row = tuple[Any, ...]


async def rows_of(raw: AsyncEngine, statement: Select[Any]) -> list[Row]:
    async with raw.connect() as connection:
        return [tuple(row) for row in await connection.execute(statement)]


def rows_without_log(database: Path, statement: str) -> list[Row]:
    """Return what a statement finds in an SQLite file itself, without its write-ahead log."""
    copy = database.with_name(f"{database.name}-copy")
    # In another process: closing the file in this one would drop SQLite's locks.
    subprocess.run(["cp", database, copy], check=True)
    with closing(sqlite3.connect(copy)) as connection:
        return connection.execute(statement).fetchall()


async def count_of(raw: AsyncEngine, table: Table) -> int:
    ((count,),) = await rows_of(raw, select(func.count()).select_from(table))
    return int(count)


async def dump(raw: AsyncEngine) -> dict[str, list[Row]]:
    """Return all rows of all tables, to compare with another dump."""
    async with raw.connect() as connection:
        return {
            table.name: [tuple(row) for row in await connection.execute(select(table).order_by(*table.primary_key))]
            for table in t.metadata.sorted_tables
        }


async def password_hash(raw: AsyncEngine, mailbox_id: str) -> str:
    ((stored,),) = await rows_of(raw, select(t.mailboxes.c.password_hash).where(t.mailboxes.c.id == mailbox_id))
    return str(stored)


async def check_lists(raw: AsyncEngine) -> None:
    """Check the counters and search indexes that triggers maintain against the rows of their tables."""
    async with raw.connect() as connection:
        by_project: Counter[Row] = Counter()
        by_domain: Counter[Row] = Counter()
        for table in (t.domains, t.mailboxes, t.aliases, t.forwardings):
            for row in await connection.execute(select(table)):
                by_project[row.organization_id, row.project_id, table.name, row.status.value] += 1
                if table is t.mailboxes:
                    by_domain[row.organization_id, row.domain_id, row.status.value, row.project_id] += 1
        for counts, expected in ((t.project_counts, by_project), (t.domain_counts, by_domain)):
            stored = {tuple(keys): count for *keys, count in await connection.execute(select(counts))}
            assert stored == expected, counts.name
        await _check_quota_usage(connection)
        if connection.dialect.name == "sqlite":
            for table, _ in t.SEARCHED:
                search, numbers = f"search_{table.name}_terms", f"search_{table.name}_numbers"
                indexed = await connection.exec_driver_sql(f"SELECT count(*) FROM {numbers}")
                rows = await connection.execute(select(func.count()).select_from(table))
                assert indexed.scalar_one() == rows.scalar_one()
                # Raises an error if the index and the texts differ.
                await connection.exec_driver_sql(f"INSERT INTO {search} ({search}, rank) VALUES ('integrity-check', 1)")


async def _check_quota_usage(connection: AsyncConnection) -> None:
    expected: Counter[Row] = Counter()
    octets: Counter[Row] = Counter()
    for table in (t.domains, t.aliases, t.idempotency_keys):
        for row in await connection.execute(select(table)):
            keys = [(row.organization_id, table.name, row.organization_id)]
            if table is t.aliases:
                keys.append((row.organization_id, table.name, row.mailbox_id))
            expected.update(keys)
            if table is t.idempotency_keys:
                octets[keys[0]] += len(row.key) + len(row.digest) + len(row.answer)
    stored = {tuple(row[:3]): tuple(row[3:]) for row in await connection.execute(select(t.quota_usage))}
    assert stored == {key: (count, octets[key]) for key, count in expected.items()}


async def check_invariants(raw: AsyncEngine) -> None:
    """Check every counter, address, due date and owner against the rows that determine it."""
    await check_lists(raw)
    async with raw.connect() as connection:
        rows = await connection.execute(select(*columns_of(Mailbox, t.mailboxes)))
        mailboxes = [from_row(Mailbox, row) for row in rows]
        work = (await connection.execute(select(t.mailboxes.c.id, t.mailboxes.c.due_at, t.mailboxes.c.claim))).all()
        projects = (await connection.execute(select(t.projects))).all()
        domains = (await connection.execute(select(t.domains))).all()
        aliases = (await connection.execute(select(t.aliases))).all()
        addresses = (await connection.execute(select(t.addresses))).all()
        forwardings = (await connection.execute(select(t.forwardings))).all()
        settings = (await connection.execute(select(t.mailbox_forwardings))).all()
    for project in projects:
        counted = [each for each in mailboxes if each.project_id == project.id and not _deleted_unpaid(each)]
        assert project.mailbox_count == len(counted)
        assert project.mailbox_count <= project.mailbox_quota
    for domain in domains:
        assert domain.mailbox_total_count == len([m for m in mailboxes if m.domain_id == domain.id])
    assert sorted((a.domain_id, a.local_part, a.mailbox_id or "", a.alias_id or "") for a in addresses) == sorted(
        [(m.domain_id, m.email.partition("@")[0], m.id, "") for m in mailboxes]
        + [(a.domain_id, a.email.partition("@")[0], "", a.id) for a in aliases]
    )
    stored_due = {row.id: row.due_at for row in work}
    generations = {row.id: row.claim for row in work}
    for mailbox in mailboxes:
        # A lease or a retry may have moved the due date of these.
        may_differ = generations[mailbox.id] > 0 or mailbox.status is MailboxStatus.WAITING_DOMAIN
        expected_due = due_at(mailbox)
        assert stored_due[mailbox.id] == expected_due or (expected_due and stored_due[mailbox.id] and may_differ)
    owners = {domain.id: (domain.organization_id, domain.project_id) for domain in domains}
    for mailbox in mailboxes:
        assert (mailbox.organization_id, mailbox.project_id) == owners[mailbox.domain_id]
    for alias in aliases:
        assert (alias.organization_id, alias.project_id) == owners[alias.domain_id]
    assert {alias.mailbox_id for alias in aliases} <= {mailbox.id for mailbox in mailboxes}
    by_id = {mailbox.id: mailbox for mailbox in mailboxes}
    for row in (*forwardings, *settings):
        mailbox = by_id[row.mailbox_id]
        assert (row.organization_id, row.project_id) == (mailbox.organization_id, mailbox.project_id)
    own = {(alias.mailbox_id, alias.email) for alias in aliases} | {(each.id, each.email) for each in mailboxes}
    assert not own & {(row.mailbox_id, row.email.lower()) for row in forwardings}
    assert max(Counter(row.mailbox_id for row in forwardings).values(), default=0) <= MAX_FORWARDINGS


def _deleted_unpaid(mailbox: Mailbox) -> bool:
    """Return whether a mailbox was deleted before its first payment was confirmed: its quota is free again."""
    deleted = mailbox.status in {MailboxStatus.DELETION_SCHEDULED, MailboxStatus.DELETING}
    return deleted and mailbox.subscription_period is None and mailbox.period_anchor_at == mailbox.created_at
