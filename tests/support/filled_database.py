"""A database with rows in every table, and functions that compare databases."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import inspect, make_url, select

from postroomd.domain.clock_leaps import WorkerClock
from postroomd.domain.context import CallContext, Idempotency
from postroomd.domain.domains import begin_validation
from postroomd.domain.forwardings import change_settings
from postroomd.domain.forwardings import new_forwarding as make_forwarding
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import Alias, DomainStatus, Mailbox, RecordStatus
from postroomd.domain.records import Finding
from postroomd.storage.drivers import driver_for, open_engines
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.schema import metadata
from postroomd.worker.steps import Worker
from tests.support.factories import (
    NOW,
    OPERATOR,
    admin_key,
    alias,
    api_key,
    digest,
    mailbox,
    new_domain,
    new_forwarding,
    new_id,
    new_mailboxes,
    new_neighbor,
    new_tenant,
    rotate_dkim_key,
    tenant_context,
)
from tests.support.lifecycle import BILLED, FREE, PLATFORM, RETENTION
from tests.support.worker import drain, validation_rule
from tools.postgres import PostgresServer

LATER = NOW + timedelta(hours=1)
LEASE = timedelta(minutes=1)
MAILBOXES = 120


async def with_repository(
    url: str, work: Callable[[Repository], Awaitable[object]], command: CallContext | None = None
) -> None:
    repository = await open_repository(url, command=command)
    try:
        await work(repository)
    finally:
        await repository.close()


def fill(url: str) -> None:
    """Create rows in every table of a migrated database, by calls, by the worker, and by a command."""
    asyncio.run(with_repository(url, populate))
    command = replace(OPERATOR, actor="command:Zoë")
    asyncio.run(with_repository(url, lambda each: each.admin_keys.create(admin_key("late"), digest("late")), command))


async def populate(repository: Repository) -> None:
    """Create resources of every kind through the repository."""
    tenant = await new_tenant(repository)
    neighbor = await new_neighbor(repository, tenant)
    # Keys that SQLite and a PostgreSQL locale sort differently.
    for access_key, limited in (("SCWa0000000000000000", True), ("SCWB0000000000000000", False)):
        key = replace(api_key(neighbor, limited=limited), access_key=access_key, expires_at=LATER if limited else None)
        await repository.tenancy.create_key(key, digest(access_key))
    await repository.tenancy.revoke_key("SCWB0000000000000000", LATER)
    for name, expires_at in (("ab", None), ("a.z", LATER)):
        await repository.admin_keys.create(replace(admin_key(name), expires_at=expires_at), digest(name))
    await repository.admin_keys.revoke("ab", LATER)
    await repository.clocks.accept(LATER)
    for origin, leapt_to in ((NOW, None), (None, LATER)):
        await repository.clocks.beat(WorkerClock(f"boot {origin}", LATER, origin, leapt_to, 1), NOW)

    for name, status in (("example.com", DomainStatus.READY), ("xn--bcher-kva.example", DomainStatus.VALIDATING)):
        validated = await new_domain(repository, tenant, name, status)
    finding = {"mx": Finding(RecordStatus.INVALID, "it points at “mx.bücher.example”")}
    context = tenant.context
    validating = partial(begin_validation, now=LATER)
    await repository.domains.begin_validation(context, validated.id, validating, LATER)
    (claimed,) = await repository.work.lease_domains(LATER, LEASE, 1)
    await repository.work.settle_validation(claimed, validation_rule(finding, LEASE, LATER))
    await repository.domains.begin_validation(context, validated.id, validating, LATER)

    await rotate_dkim_key(repository, validated)

    parent = await new_domain(repository, await new_tenant(repository), "example.org")
    await rotate_dkim_key(repository, parent, immediately=True)
    context = tenant_context(organization_id=parent.organization_id)
    created = await new_mailboxes(repository, parent, *(f"m{number:03}" for number in range(MAILBOXES - 1)))
    await repository.mailboxes.change(
        context, created[3].id, lambda stored, _: delete_mailbox(stored, RETENTION, LATER)
    )
    await repository.mailboxes.change(context, created[7].id, lambda stored, _: delete_mailbox(stored, LEASE, NOW))
    await drain(Worker(work=repository.work, prober=None, policy=FREE), NOW + LEASE)  # purges it
    unpaid, creating = mailbox("unpaid", policy=BILLED), mailbox("creating", policy=PLATFORM)
    await repository.mailboxes.create(context, parent.id, [unpaid, creating])
    for number, owner in enumerate(created[4:7]):
        request = Idempotency(
            key=f"key {number}", digest=digest("a request"), encode=_encode, now=NOW, expires_at=LATER
        )
        described = replace(alias(owner, local_part=f"also{number}"), description="café 𝄞 ☃ 'quoted'")
        await repository.aliases.create(replace(context, idempotency=request), owner.id, partial(_prebuilt, described))
        await new_forwarding(repository, owner, f"Zoe+{number}@xn--bcher-kva.example")
    muting = partial(change_settings, keep_copy=False, enabled=None, now=LATER)
    await repository.forwardings.change_settings(context, created[4].id, muting, lambda stored: stored)
    pending = partial(make_forwarding, forwarding_id=new_id(), destination="a@b.example", policy=PLATFORM, now=NOW)
    await repository.forwardings.create(context, created[5].id, "a@b.example", pending)


def _prebuilt(built: Alias, _parent: Mailbox) -> Alias:
    return built


def _encode(_result: object) -> bytes:
    return b"\x00\xff\n'a response'"


async def all_rows(url: str) -> dict[str, list[str]]:
    """Return all rows of all tables, with values converted by SQLAlchemy."""
    engine = open_engines(url, owner=False, pool_size=1).reader
    try:
        async with engine.connect() as connection:
            tables = {table.name: await connection.execute(select(table)) for table in metadata.sorted_tables}
            return {name: sorted(repr(tuple(row)) for row in rows) for name, rows in tables.items()}
    finally:
        await engine.dispose()


async def table_names(url: str) -> list[str]:
    engine = open_engines(url, owner=False, pool_size=1).reader
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    finally:
        await engine.dispose()


def execute(url: str, statement: str, postgres: PostgresServer) -> None:
    """Execute a statement directly on a database."""
    if driver_for(url).file(make_url(url)) is None:
        postgres.sql(statement, str(make_url(url).database))
        return
    connection = sqlite3.connect(str(make_url(url).database))
    with connection:
        connection.execute(statement)
    connection.close()


def copy_file(url: str, directory: Path) -> str:
    """Copy an SQLite database. Returns the URL of the copy."""
    path = directory / f"{new_id()}.db"
    shutil.copyfile(str(make_url(url).database), path)
    return f"sqlite+aiosqlite:///{path}"
