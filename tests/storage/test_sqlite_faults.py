"""SQLite files that are damaged, deleted or replaced while they are in use."""
# ruff: noqa: ASYNC240 # local files

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import StorageUnavailable
from postroomd.settings import SQLITE_PREFIX
from postroomd.storage import files
from postroomd.storage.drivers.sqlite_files import SqliteFiles
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import NOW, Tenant, new_domain, new_mailboxes, new_tenant
from tests.support.metrics import scrape_tests
from tests.support.stores import Store
from tests.support.waiting import wait_until

FAULTS = "postroom_database_faults_total"
MAILBOXES = 50


@pytest.fixture
def clean_store(sqlite_store: str) -> str:
    """SQLite only."""
    return sqlite_store


@pytest.fixture(autouse=True)
def frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHECK_SECONDS", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "postroom.db"


@pytest.fixture
def write_ahead_log(tmp_path: Path) -> Path:
    return tmp_path / "postroom.db-wal"


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Repository]:
    repository = await open_repository(store.url, owner=True)
    yield repository
    await repository.close()


@pytest.fixture
async def worker(store: Store) -> AsyncIterator[Repository]:
    repository = await open_repository(store.url, worker=True)
    yield repository
    await repository.close()


async def reason_of(repository: Repository) -> str:
    """Return why a repository is not ready; empty if it is."""
    try:
        await repository.ping()
    except StorageUnavailable as error:
        return error.reason
    return ""


async def wait_for_fault(repository: Repository) -> str:
    return await wait_until(lambda: reason_of(repository))


def overwrite(path: Path, start: int, octets: int = 4_096) -> None:
    """Overwrite a part of a file, in another process: closing it in this one would drop SQLite's locks."""
    program = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(b'\\xa5' * int(sys.argv[3]))"
    subprocess.run([sys.executable, "-c", program, str(path), str(start), str(octets)], check=True)


def faults_of(logs: list[Any]) -> list[tuple[str, str | None]]:
    return [(line["kind"], line.get("acknowledged_writes")) for line in logs if line["event"] == "database fault"]


def stored_mailboxes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM mailboxes").fetchone()[0])


async def fill(repository: Repository, name: str = "example.org") -> Tenant:
    tenant = await new_tenant(repository)
    domain = await new_domain(repository, tenant, name)
    await new_mailboxes(repository, domain, *(f"m{number}" for number in range(MAILBOXES)))
    return tenant


async def test_a_deleted_log_is_reported_once_and_its_commits_are_stored(
    service: Repository, path: Path, write_ahead_log: Path
) -> None:
    tenant = await fill(service)
    before = scrape_tests()
    with capture_logs() as logs:
        write_ahead_log.unlink()
        reason = await wait_for_fault(service)
        for _ in range(3):  # nothing more is acknowledged, nor read from files that nobody else sees
            with pytest.raises(StorageUnavailable):
                await new_domain(service, tenant, "late.test")
            with pytest.raises(StorageUnavailable):
                await service.tenancy.list_projects()
        await wait_until(lambda: faults_of(logs))
    assert reason.startswith("the write-ahead log was deleted or replaced while it was in use: stop every process")
    assert reason.isascii()
    assert faults_of(logs) == [("log_replaced", "are in the database file")]
    assert scrape_tests().increase(before, FAULTS, kind="log_replaced") == 1
    assert stored_mailboxes(path) == MAILBOXES  # also if the process is killed now


async def test_service_and_worker_both_let_go_of_a_deleted_log(
    service: Repository, worker: Repository, path: Path, write_ahead_log: Path
) -> None:
    await fill(service)
    await fill(worker, "other.test")
    write_ahead_log.unlink()
    for repository in (service, worker):
        assert "write-ahead log" in await wait_for_fault(repository)
    for repository in (service, worker):
        await repository.close()
    assert stored_mailboxes(path) == 2 * MAILBOXES


@pytest.mark.usefixtures("clean_store")
def test_a_check_that_begins_after_the_close_opens_no_connection(path: Path) -> None:
    opened: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        opened.append(sqlite3.connect(path))
        return opened[-1]

    watched = SqliteFiles(path, connect)
    assert watched.check() is None
    watched.close()
    assert watched.check() is None
    assert len(opened) == 1


async def test_a_log_begun_by_another_process_may_lack_acknowledged_writes(
    service: Repository, write_ahead_log: Path
) -> None:
    await fill(service)
    with capture_logs() as logs:
        write_ahead_log.rename(write_ahead_log.with_suffix(".moved"))
        write_ahead_log.touch()
        await wait_for_fault(service)
        await wait_until(lambda: faults_of(logs))
    assert faults_of(logs) == [("log_replaced", "may be missing")]


async def test_a_replaced_file_is_reported_and_not_written_to(
    service: Repository, path: Path, sqlite_template: Path, tmp_path: Path
) -> None:
    tenant = await fill(service)
    restored = shutil.copy(sqlite_template, tmp_path / "restored.db")
    with capture_logs() as logs:
        Path(restored).replace(path)
        assert "database file was deleted or replaced" in await wait_for_fault(service)
        with pytest.raises(StorageUnavailable):
            await new_domain(service, tenant, "late.test")
        await wait_until(lambda: faults_of(logs))
    assert faults_of(logs) == [("file_replaced", "may be missing")]
    await service.close()
    assert path.read_bytes() == sqlite_template.read_bytes()


async def test_a_damaged_header_is_found_without_a_call(service: Repository, store: Store, path: Path) -> None:
    await fill(service)
    checkpoint(store)
    with capture_logs() as logs:
        overwrite(path, 0)
        assert "the database file is damaged (SQLITE_NOTADB): stop every process" in await wait_for_fault(service)
        await wait_for_fault(service)
    assert faults_of(logs) == [("damaged", "may be missing")]


def checkpoint(store: Store) -> None:
    """Store the log in the file, so that pages are read from there."""
    with closing(sqlite3.connect(store.url.removeprefix(SQLITE_PREFIX))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


async def test_damaged_rows_are_reported_once_and_stop_changes(store: Store, path: Path) -> None:
    first = await open_repository(store.url, owner=True)
    tenant = await fill(first)
    await first.close()
    with closing(sqlite3.connect(path)) as connection:
        root = "SELECT rootpage FROM sqlite_schema WHERE name = 'projects'"
        page = int(connection.execute(root).fetchone()[0])
    overwrite(path, (page - 1) * 4_096)
    service = await open_repository(store.url, owner=True)
    before = scrape_tests()
    with capture_logs() as logs:
        assert await reason_of(service) == ""  # no statement has needed the page
        for _ in range(3):
            with pytest.raises(StorageUnavailable) as caught:
                await service.tenancy.list_projects()
            assert "damaged" not in str(caught.value)
        assert "the database file is damaged (SQLITE_CORRUPT" in await reason_of(service)
        with pytest.raises(StorageUnavailable):
            await new_domain(service, tenant, "late.test")
    assert faults_of(logs) == [("damaged", "may be missing")]
    assert [line["event"] for line in logs if line["log_level"] in {"warning", "error"}] == ["database fault"]
    assert scrape_tests().increase(before, FAULTS, kind="damaged") == 3
    await service.close()


async def test_a_worker_destroys_nothing_in_a_damaged_database(worker: Repository, store: Store, path: Path) -> None:
    tenant = await new_tenant(worker)
    domain = await new_domain(worker, tenant)
    await new_mailboxes(worker, domain, "ada", "bob")
    await worker.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW)
    checkpoint(store)
    undamaged = path.read_bytes()
    overwrite(path, 0)
    await wait_for_fault(worker)
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await worker.work.purge_domains(lambda _: None, lambda _: None, NOW, 10)
    await worker.close()
    path.write_bytes(undamaged[:4_096] + path.read_bytes()[4_096:])
    assert stored_mailboxes(path) == 2
