"""Promises of SQLite only: query plans, pragmas, checkpoints, and a file that is locked, full or missing."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Pool, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import StorageUnavailable
from postroomd.domain.mailboxes import advance_mailbox, follow_domain
from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, RecordStatus
from postroomd.domain.records import RECORD_KINDS, Finding
from postroomd.storage import schema as t
from postroomd.storage.drivers import driver_of, open_engines, sqlite, sqlite_log
from postroomd.storage.migrations import migrate, require_current
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import count_of, dump, rows_without_log
from tests.support.factories import (
    NOW,
    Tenant,
    alias,
    mailbox,
    new_alias,
    new_domain,
    new_forwarding,
    new_mailbox,
    new_mailboxes,
    new_tenant,
)
from tests.support.lifecycle import BOTH
from tests.support.stores import Store
from tests.support.waiting import wait_until
from tests.support.worker import activate_domains, validation_rule

Statement = tuple[str, Any]


@pytest.fixture
def clean_store(sqlite_store: str) -> str:
    """SQLite only."""
    return sqlite_store


# --- Query plans ------------------------------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """Yield the statements that the block executes, with their parameters."""
    recorded: list[Statement] = []

    def record(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        if statement.split()[0] in {"SELECT", "UPDATE", "DELETE"}:
            recorded.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", record)
    yield recorded
    event.remove(Engine, "before_cursor_execute", record)


async def plans_of(raw: AsyncEngine, executed: list[Statement]) -> list[tuple[str, list[str]]]:
    """Return each statement with the plan that SQLite chooses for its parameters."""
    plans = []
    async with raw.connect() as connection:
        for statement, parameters in executed:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append((statement, [row.detail for row in rows]))
    return plans


STRUCTURE = ("SCAN CONSTANT ROW", "SCALAR SUBQUERY", "CORRELATED SCALAR SUBQUERY", "MULTI-INDEX OR", "INDEX ")
"""Lines of a plan that read no row."""
ORDERED_SCANS = ("SCAN payments USING INDEX ix_payments_open", "SCAN provisions USING INDEX ix_provisions_pending")
"""The operator's lists of every tenant: from the start of an index that contains nothing else."""


RANKING = ("MATERIALIZE placed", "CO-ROUTINE ", "SCAN (subquery-", "SCAN turns", "SCAN placed", "USE TEMP B-TREE ")
"""Lines of the plan of the due lookups by turn: those that are due are read by an index, then ranked and sorted."""


def check_indexed(plans: list[tuple[str, list[str]]]) -> None:
    for statement, steps in plans:
        assert steps, statement
        for step in steps:
            if step.startswith((*STRUCTURE, *ORDERED_SCANS, *(RANKING if "AS placed" in statement else ()))):
                continue
            assert step.startswith("SEARCH "), (step, statement)
            assert " INDEX " in step, (step, statement)


LEASE = timedelta(minutes=1)


async def test_every_statement_of_the_worker_is_served_by_an_index(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    work = repository.work
    provisioning = await new_domain(repository, tenant, "provisioning.test", DomainStatus.PROVISIONING)
    pending = await new_domain(repository, tenant, status=DomainStatus.WAITING_VALIDATION)
    deleted = await new_domain(repository, tenant, "deleted.test")
    (ada,) = await new_mailboxes(repository, deleted, "ada")
    await new_alias(repository, ada, "countess")
    (waiting,) = await new_mailboxes(repository, provisioning, "waiting")
    waiting_alias = replace(alias(waiting, local_part="also"), status=AliasStatus.PROVISIONING)
    await repository.aliases.create(tenant.context, waiting.id, lambda _: waiting_alias)
    await new_forwarding(repository, waiting, "ann@elsewhere.example", status=ForwardingStatus.PROVISIONING)
    await new_forwarding(repository, ada, "ann@elsewhere.example")
    await new_mailbox(repository, deleted, mailbox("unpaid", policy=BOTH))
    findings = {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}
    with statements() as executed:
        await repository.domains.begin_validation(tenant.context, pending.id, partial(begin_validation, now=NOW), NOW)
        await work.next_due(with_provisions=True)
        (domain_lease,) = await work.lease_domains(NOW, LEASE, 10)
        settled = await work.settle_validation(domain_lease, validation_rule(findings, LEASE, NOW))
        assert settled.domain.status is DomainStatus.PROVISIONING
        assert await activate_domains(work, LEASE, NOW, 10) == 2
        for owning in (True, False):
            assert await work.rivals(pending, owning=owning, limit=10) == []
        for limit in (1, 1, 1, 1, 10, 10):
            await work.propagate_domain(partial(follow_domain, now=NOW), limit)
        assert not (await work.next_due()).immediate
        leases = await work.lease_mailboxes(NOW + timedelta(days=40), LEASE, 10)
        assert len(leases) == 3
        for lease in leases:
            assert await work.advance(lease, partial(advance_mailbox, policy=BOTH, now=NOW), NOW) is True
            await work.postpone_mailbox(lease, NOW)
        await repository.domains.delete(tenant.context, deleted.id, partial(delete_domain, force=True, now=NOW), NOW)
        purge = partial(work.purge_domains, lambda _: None, lambda _: None, NOW, 10)
        batches = [await purge() for _ in range(3)]
        assert [batch and (batch.mailboxes, batch.remaining, batch.removed) for batch in batches] == [
            (2, 0, False),
            (0, 0, True),
            None,
        ]
        assert await work.remove_expired_responses(NOW, 10) == 0
        administration = repository.administration
        await administration.pending_payments("", 10)
        await administration.pending_provisions(NOW, "", 10)
        await administration.transitions(ada.id, 0, 10)
        await administration.domain_transitions(deleted.id, 0, 10)
    plans = await plans_of(raw, executed)
    assert len(plans) > 20
    check_indexed(plans)
    ownership = [steps for statement, steps in plans if "domains.status IN" in statement]
    assert len(ownership) == 2
    assert all("uq_domains_proved_name" in steps[0] for steps in ownership)


# --- Pragmas and checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [False, True])
async def test_only_the_owners_writer_checkpoints_and_every_connection_is_durable(
    sqlite_store: str, owner: bool
) -> None:
    engines = open_engines(sqlite_store, owner=owner, pool_size=10)
    for engine, checkpoints in ((engines.reader, False), (engines.writer, owner)):
        async with engine.connect() as connection:
            pragmas = {
                name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint")
            }
        assert pragmas == {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "foreign_keys": 1,
            "busy_timeout": 5_000,
            "wal_autocheckpoint": 1_000 if checkpoints else 0,
        }
        await engine.dispose()


async def cache_size(connection: AsyncConnection) -> int:
    """Return the size in pages; in KiB if negative."""
    return int((await connection.exec_driver_sql("PRAGMA cache_size")).scalar_one())


@pytest.mark.parametrize("fault", [None, ZeroDivisionError])
async def test_a_bulk_change_enlarges_the_page_cache_until_it_ends(
    sqlite_store: str, fault: type[Exception] | None
) -> None:
    engines = open_engines(sqlite_store, owner=True, pool_size=10)
    async with engines.writer.begin() as connection:
        before = await cache_size(connection)
        with suppress(ZeroDivisionError):
            async with driver_of(connection).enlarged_page_cache(connection):
                assert await cache_size(connection) == -sqlite.BULK_CACHE_KIB != before
                if fault:
                    raise fault
        assert await cache_size(connection) == before
    await engines.close()


async def test_the_owner_checkpoints_what_other_processes_write(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "CHECKPOINT_SECONDS", 0.01)
    worker = await store.open()
    owner = await open_repository(store.url, owner=True)
    tenant = await new_tenant(worker)
    in_the_file = partial(rows_without_log, tmp_path / "postroom.db", "SELECT id FROM projects")
    await wait_until(lambda: in_the_file() == [(tenant.project.id,)])
    await owner.close()


async def test_an_owner_closes_during_a_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch, connections: Callable[[], int]
) -> None:
    monkeypatch.setattr(sqlite_log, "CHECKPOINT_SECONDS", 0.0)
    for _ in range(10):
        owner = await open_repository(store.url, owner=True)
        await new_tenant(owner)
        await owner.close()
    await wait_until(lambda: connections() == 0)


# --- Unavailability ---------------------------------------------------------------------------------------------------


async def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StorageUnavailable):
        await open_repository(f"sqlite+aiosqlite:///{tmp_path}/missing/postroom.db")
    assert set(threading.enumerate()) <= before  # the driver's thread uses the event loop until it ends


async def test_a_file_locked_past_the_busy_timeout_is_unavailable_for_writes_only(
    store: Store, raw: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    repository = await store.open()
    tenant = await new_tenant(repository)
    before = await dump(raw)
    async with raw.connect() as locking:
        await locking.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable) as caught:
            await new_domain(repository, tenant)
        assert "locked" not in str(caught.value)
        assert await repository.tenancy.list_projects() == [tenant.project]
        for function in (migrate, require_current):
            with pytest.raises(StorageUnavailable):
                await asyncio.to_thread(function, store.url)
        await locking.exec_driver_sql("ROLLBACK")
    assert await dump(raw) == before
    await new_domain(repository, tenant)


async def test_a_full_disk_is_unavailable_for_writes_only_and_rolls_back(store: Store, raw: AsyncEngine) -> None:
    repository = await store.open()
    tenant = await new_tenant(repository)
    parent = await new_domain(repository, tenant)
    await repository.close()
    async with raw.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
    before = await dump(raw)
    max_pages = pages + 3

    def limit_size(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {max_pages}").close()

    event.listen(Pool, "connect", limit_size)
    repository = await store.open()
    with pytest.raises(StorageUnavailable):
        await new_mailboxes(repository, parent, *(f"m{number}" for number in range(100)))
    event.remove(Pool, "connect", limit_size)
    assert await repository.domains.get(tenant.context, parent.id) == parent
    assert await dump(raw) == before
    await repository.close()
    # Space is available again.
    reopened = await store.open()
    await new_mailboxes(reopened, parent, *(f"m{number}" for number in range(100)))
    assert await count_of(raw, t.mailboxes) == 100
