"""What holds of SQLite alone: query plans, pragmas, and what its file can suffer."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
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
from postroomd.domain.mailboxes import advance_mailbox
from postroomd.domain.model import AliasStatus, DomainStatus, RecordStatus
from postroomd.domain.records import RECORD_KINDS, Finding
from postroomd.storage import database as storage_engine
from postroomd.storage import schema as t
from postroomd.storage.drivers import driver_of, open_engines, sqlite
from postroomd.storage.migrations import migrate, require_current
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import (
    NOW,
    Tenant,
    alias,
    mailbox,
    new_alias,
    new_domain,
    new_mailboxes,
    new_one,
    new_tenant,
)
from tests.support.lifecycle import BOTH
from tests.support.stored import count_of, dump, eventually
from tests.support.stores import Store

Statement = tuple[str, Any]


@pytest.fixture
def clean_store(sqlite_store: str) -> str:
    """SQLite alone."""
    return sqlite_store


# --- Every query is served by an index --------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """What is executed inside the block, with its parameters."""
    found: list[Statement] = []

    def executing(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        if statement.split()[0] in {"SELECT", "UPDATE", "DELETE"}:
            found.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", executing)
    yield found
    event.remove(Engine, "before_cursor_execute", executing)


async def plans(raw: AsyncEngine, executed: list[Statement]) -> list[tuple[str, list[str]]]:
    """The plan of each statement, as SQLite chooses it for its parameters."""
    found = []
    async with raw.connect() as connection:
        for statement, parameters in executed:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.append((statement, [row.detail for row in rows]))
    return found


STRUCTURE = ("SCAN CONSTANT ROW", "SCALAR SUBQUERY", "CORRELATED SCALAR SUBQUERY", "MULTI-INDEX OR", "INDEX ")
"""Lines of a plan that look at no row."""
IN_ORDER = ("SCAN payments USING INDEX ix_payments_open", "SCAN provisions USING INDEX ix_provisions_pending")
"""The operator's lists, of every tenant: from the start of an index that holds nothing else."""


def check_indexed(planned: list[tuple[str, list[str]]]) -> None:
    for statement, steps in planned:
        assert steps, statement
        for step in steps:
            if step.startswith((*STRUCTURE, *IN_ORDER)):
                continue
            assert step.startswith("SEARCH "), (step, statement)
            assert " INDEX " in step, (step, statement)


LEASE = timedelta(minutes=1)


async def test_every_look_for_work_is_served_by_an_index(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    work = repository.work
    provisioning = await new_domain(repository, tenant, "provisioning.test", DomainStatus.PROVISIONING)
    made = await new_domain(repository, tenant, status=DomainStatus.WAITING_VALIDATION)
    going = await new_domain(repository, tenant, "going.test")
    (ada,) = await new_mailboxes(repository, going, "ada")
    await new_alias(repository, ada, "countess")
    (waiting,) = await new_mailboxes(repository, provisioning, "waiting")
    its_alias = replace(alias(waiting, local_part="also"), status=AliasStatus.PROVISIONING)
    await repository.aliases.create(tenant.context, waiting.id, lambda _: its_alias)
    await new_one(repository, going, mailbox("unpaid", policy=BOTH))
    findings = {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}
    with statements() as executed:
        await repository.domains.begin_validation(tenant.context, made.id, partial(begin_validation, now=NOW), NOW)
        await work.next_due(platform=False)
        (look_up,) = await work.lease_domains(NOW, LEASE, 10)
        settled = await work.settle_validation(look_up, findings, LEASE, NOW)
        assert settled.status is DomainStatus.PROVISIONING
        assert await work.finish_provisioning(LEASE, NOW, 10) == 2
        claims = await work.lease_mailboxes(NOW + timedelta(days=40), LEASE, 10)
        assert len(claims) == 3
        for claim in claims:
            assert await work.advance(claim, partial(advance_mailbox, policy=BOTH, now=NOW), NOW) is True
            await work.put_off_mailbox(claim, NOW)
        await repository.domains.delete(tenant.context, going.id, partial(delete_domain, now=NOW), NOW)
        purge = partial(work.purge_domains, lambda _: None, lambda _: None, NOW, 10)
        assert [await purge() for _ in range(3)] == [2, 1, 0]
        assert await work.forget_answers(NOW, 10) == 0
        operations = repository.administration
        await operations.pending_payments("", 10)
        await operations.pending_provisions(NOW, "", 10)
        await operations.transitions(ada.id, 0, 10)
    planned = await plans(raw, executed)
    assert len(planned) > 20
    check_indexed(planned)
    (proof,) = [steps for statement, steps in planned if "domains.status IN" in statement]
    assert "uq_domains_proved_name" in proof[0]


# --- How the file is opened -------------------------------------------------------------------------------------------


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
    """In pages; in KiB where it is negative."""
    return int((await connection.exec_driver_sql("PRAGMA cache_size")).scalar_one())


@pytest.mark.parametrize("fault", [None, ZeroDivisionError])
async def test_very_many_changes_have_more_memory_for_as_long_as_they_take(
    sqlite_store: str, fault: type[Exception] | None
) -> None:
    engines = open_engines(sqlite_store, owner=True, pool_size=10)
    async with engines.writer.begin() as connection:
        usual = await cache_size(connection)
        with suppress(ZeroDivisionError):
            async with driver_of(connection).enlarged_page_cache(connection):
                assert await cache_size(connection) == -sqlite.BULK_CACHE_KIB != usual
                if fault:
                    raise fault
        assert await cache_size(connection) == usual
    await engines.close()


async def test_the_owner_checkpoints_what_other_processes_write(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_engine, "CHECKPOINT_SECONDS", 0.01)
    worker = await store.open()
    owner = await open_repository(store.url, owner=True)
    tenant = await new_tenant(worker)
    copy = tmp_path / "copy.db"

    async def reached_the_file() -> bool:
        shutil.copy(tmp_path / "postroom.db", copy)  # without its write-ahead log
        async with AsyncExitStack() as cleanups:
            reader = await open_repository(f"sqlite+aiosqlite:///{copy}")
            cleanups.push_async_callback(reader.close)
            return await reader.tenancy.list_projects() == [tenant.project]

    await eventually(reached_the_file)
    await owner.close()


async def test_an_owner_closes_in_the_middle_of_a_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch, connections: Callable[[], int]
) -> None:
    monkeypatch.setattr(storage_engine, "CHECKPOINT_SECONDS", 0.0)
    for _ in range(10):
        owner = await open_repository(store.url, owner=True)
        await new_tenant(owner)
        await owner.close()
    await eventually(lambda: connections() == 0)


# --- Out of reach -----------------------------------------------------------------------------------------------------


async def test_a_file_that_cannot_be_opened_is_out_of_reach(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StorageUnavailable):
        await open_repository(f"sqlite+aiosqlite:///{tmp_path}/missing/postroom.db")
    # The driver's thread speaks to the event loop until it ends.
    await eventually(lambda: set(threading.enumerate()) <= before)


async def test_a_file_that_another_process_locks_for_long_is_out_of_reach_for_writes_alone(
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
        for act in (migrate, require_current):
            with pytest.raises(StorageUnavailable):
                await asyncio.to_thread(act, store.url)
        await locking.exec_driver_sql("ROLLBACK")
    assert await dump(raw) == before
    await new_domain(repository, tenant)


async def test_a_full_disk_is_out_of_reach_for_writes_alone_and_leaves_nothing(store: Store, raw: AsyncEngine) -> None:
    repository = await store.open()
    tenant = await new_tenant(repository)
    within = await new_domain(repository, tenant)
    await repository.close()
    async with raw.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
    before = await dump(raw)
    full = pages + 3

    def fill(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {full}").close()

    event.listen(Pool, "connect", fill)
    repository = await store.open()
    with pytest.raises(StorageUnavailable):
        await new_mailboxes(repository, within, *(f"m{number}" for number in range(100)))
    event.remove(Pool, "connect", fill)
    assert await repository.domains.get(tenant.context, within.id) == within
    assert await dump(raw) == before
    await repository.close()
    # Space returns.
    again = await store.open()
    await new_mailboxes(again, within, *(f"m{number}" for number in range(100)))
    assert await count_of(raw, t.mailboxes) == 100
