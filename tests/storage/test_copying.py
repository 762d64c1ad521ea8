"""Copying a whole database from one engine to the other: no row is lost, changed, or copied twice."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg.cursor  # type: ignore[import-untyped]
import asyncpg.prepared_stmt  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Engine, event, make_url

from postroomd.storage.copy.copying import CopyFailed, ProgressCallback, Stage, copy_database
from postroomd.storage.drivers import sqlite_connection
from postroomd.storage.migrations import migrate, require_current
from postroomd.storage.schema import DERIVED_TABLES, TENANT_TABLES, metadata
from tests.support.databases import NewDatabase
from tests.support.factories import new_id, new_tenant
from tests.support.filled_database import (
    MAILBOXES,
    all_rows,
    copy_file,
    execute,
    fill,
    table_names,
    with_repository,
)
from tools.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgresql")

CHUNK = 50


class Interrupted(Exception):
    """Raised to interrupt a copy."""


def interrupting(done: Counter[str]) -> ProgressCallback:
    """Return a callback that interrupts a copy after its first chunk and counts the rows copied of each table."""
    begun: set[str] = set()

    def progress(stage: Stage, _total: int, table: str, rows: int) -> None:
        if stage is Stage.COPYING and table not in begun:
            begun.add(table)
            assert rows == done[table], "the copy did not resume from its position"
        elif stage is Stage.COPYING:
            done[table] += rows
            raise Interrupted

    return progress


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite database with rows in every table, which tests do not change."""
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('source')}/source.db"
    migrate(url)
    fill(url)
    return url


async def test_a_copy_to_postgresql_and_back_changes_nothing(
    source: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    postgres.sql("CREATE DATABASE moved")  # neither target has a schema
    there, back = postgres.url("moved"), f"sqlite+aiosqlite:///{tmp_path}/new/back.db"
    copied = await copy_database(source, there, chunk_rows=CHUNK)
    assert await copy_database(there, back, chunk_rows=CHUNK) == copied
    rows = await all_rows(source)
    assert await all_rows(there) == await all_rows(back) == rows
    assert {each.table: each.rows for each in copied} == {name: len(found) for name, found in rows.items()}
    assert (tmp_path / "new/back.db").stat().st_mode & 0o777 == 0o600
    for url in (there, back):
        assert "copy_progress" not in await table_names(url)
        await asyncio.to_thread(require_current, url)


async def test_the_source_has_rows_in_every_table_and_every_kind_of_value(source: str) -> None:
    rows = await all_rows(source)
    assert [name for name, found in rows.items() if not found] == []
    values = " ".join(row for found in rows.values() for row in found)
    assert [kind for kind in ("None", "True", "False", "café 𝄞", r"\x00\xff\n") if kind not in values] == []


def test_no_table_has_autoincremented_keys() -> None:
    # A copy consists of rows only: the target's sequences would start again.
    assert [table.name for table in metadata.sorted_tables if table.autoincrement_column is not None] == []


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_copy_resumes_after_any_number_of_interruptions(
    source: str, engine: str, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    target = new_postgres_database() if engine == "postgresql" else f"sqlite+aiosqlite:///{tmp_path}/target.db"
    done: Counter[str] = Counter()
    interruptions = 0
    while True:
        try:
            await copy_database(source, target, progress=interrupting(done), chunk_rows=CHUNK)
            break
        except Interrupted:
            interruptions += 1
    rows = await all_rows(source)
    derived = {table.name for table in DERIVED_TABLES}
    assert interruptions == sum(-(-len(found) // CHUNK) for name, found in rows.items() if name not in derived)
    assert await all_rows(target) == rows


KILLED = f"""
import asyncio, os, signal
from postroomd.storage.copy.copying import Stage, copy_database
def progress(stage, total, table, rows):
    if stage is Stage.COPYING and table == "mailboxes" and rows == {CHUNK}:
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(copy_database(os.environ["SOURCE"], os.environ["TARGET"], progress=progress, chunk_rows={CHUNK}))
"""


async def test_a_killed_copy_resumes(source: str, new_postgres_database: NewDatabase) -> None:
    target = new_postgres_database()
    environment = {**os.environ, "SOURCE": source, "TARGET": target}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, env=environment)
    assert await process.wait() == -signal.SIGKILL
    assert "copy_progress" in await table_names(target)
    steps: list[tuple[Stage, int, str, int]] = []
    await copy_database(source, target, progress=lambda *step: steps.append(step))
    copied = [rows for stage, _, table, rows in steps if stage is Stage.COPYING and table == "mailboxes"]
    assert copied == [CHUNK, MAILBOXES - CHUNK]  # the position, and then the rest in one chunk
    assert await all_rows(target) == await all_rows(source)


async def test_a_target_with_rows_is_rejected_and_unchanged(source: str, new_postgres_database: NewDatabase) -> None:
    target = new_postgres_database()
    await with_repository(target, new_tenant)
    before = await all_rows(target)
    with pytest.raises(CopyFailed, match=r"it is not empty: there are rows in organizations$"):
        await copy_database(source, target)
    assert await all_rows(target) == before
    assert "copy_progress" not in await table_names(target)


async def test_a_target_with_foreign_tables_is_rejected(source: str, postgres: PostgresServer) -> None:
    postgres.sql("CREATE DATABASE taken")
    postgres.sql("CREATE TABLE invoices (id int)", "taken")
    with pytest.raises(CopyFailed, match=r"not empty: it has tables that are not Postroom's$"):
        await copy_database(source, postgres.url("taken"))
    assert await table_names(postgres.url("taken")) == ["invoices"]


async def test_an_unfinished_copy_accepts_no_other_source_and_is_not_a_source(
    source: str, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    target, changed = new_postgres_database(), copy_file(source, tmp_path)
    await with_repository(changed, new_tenant)
    with pytest.raises(Interrupted):
        await copy_database(source, target, progress=interrupting(Counter()))
    before = await all_rows(target)
    with pytest.raises(CopyFailed, match="an unfinished copy of another source, or of this one before that changed"):
        await copy_database(changed, target)
    with pytest.raises(CopyFailed, match=r"it is an unfinished copy itself$"):
        await copy_database(target, f"sqlite+aiosqlite:///{tmp_path}/other.db")
    assert await all_rows(target) == before
    await copy_database(copy_file(source, tmp_path), target)  # the same contents at another location
    assert await all_rows(target) == await all_rows(source)


@pytest.mark.parametrize(
    ("corruption", "corrupted"),
    [
        ("UPDATE mailboxes SET password_hash = 'x' WHERE email = 'm000@example.org'", "mailboxes"),
        ("DELETE FROM api_keys WHERE read_only", "api_keys"),
        ("UPDATE domain_counts SET count = count + 1", "domain_counts"),
    ],
)
async def test_a_target_changed_during_the_copy_is_detected(
    source: str, corruption: str, corrupted: str, postgres: PostgresServer, new_postgres_database: NewDatabase
) -> None:
    target = new_postgres_database()

    def corrupt(stage: Stage, _total: int, table: str, _rows: int) -> None:
        if (stage, table) == (Stage.COPYING, "aliases"):
            execute(target, corruption, postgres)

    for progress in (corrupt, lambda *_: None):  # repeating the copy does not repair the target
        with pytest.raises(CopyFailed, match=f"after the copy it differs from the source in {corrupted};"):
            await copy_database(source, target, progress=progress)
        assert "copy_progress" in await table_names(target)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_concurrent_writes_to_the_source_are_not_copied(
    source: str, engine: str, postgres: PostgresServer, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    origin, target = copy_file(source, tmp_path), f"sqlite+aiosqlite:///{tmp_path}/target.db"
    if engine == "postgresql":
        origin = new_postgres_database()
        await copy_database(source, origin)

    def write(stage: Stage, _total: int, table: str, _rows: int) -> None:
        if (stage, table) == (Stage.COPYING, "organizations"):
            execute(origin, f"INSERT INTO organizations (id, created_at) VALUES ('{new_id()}', 1)", postgres)

    await copy_database(origin, target, progress=write)
    assert await all_rows(target) == await all_rows(source) != await all_rows(origin)


async def test_text_has_one_order_on_both_engines_whatever_the_locale(
    source: str, new_postgres_database: NewDatabase
) -> None:
    statements: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        await copy_database(source, new_postgres_database())
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    orders = {statement.partition("ORDER BY ")[2] for statement in statements if "FROM api_keys" in statement}
    assert 'api_keys.access_key COLLATE "C"' in orders


async def test_rows_are_never_fetched_all_at_once(
    source: str, new_postgres_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def spy(kind: Any, method: str) -> None:
        fetch: Callable[..., Awaitable[Any]] = getattr(kind, method)

        async def fetching(*arguments: Any, **options: Any) -> Any:
            rows = await fetch(*arguments, **options)
            sizes.append(len(list(rows)))
            return rows

        monkeypatch.setattr(kind, method, fetching)

    target = new_postgres_database()
    back = f"sqlite+aiosqlite:///{tmp_path}/back.db"
    await asyncio.to_thread(migrate, back)  # which fetches catalog rows in one piece
    spy(sqlite_connection.Cursor, "fetchall")
    spy(sqlite_connection.Cursor, "fetchmany")
    spy(asyncpg.cursor.Cursor, "fetch")
    spy(asyncpg.prepared_stmt.PreparedStatement, "fetch")
    await copy_database(source, target, chunk_rows=CHUNK)
    await copy_database(target, back, chunk_rows=CHUNK)
    assert max(sizes) == CHUNK < MAILBOXES
    assert sum(sizes) > 6 * MAILBOXES


async def test_row_level_security_holds_in_the_target(
    source: str, postgres: PostgresServer, new_postgres_database: NewDatabase
) -> None:
    target = new_postgres_database()
    await copy_database(source, target)
    name = str(make_url(target).database)
    guarded = postgres.sql("SELECT relname FROM pg_class WHERE relrowsecurity ORDER BY relname", name).split()
    assert guarded == sorted(table.name for table in TENANT_TABLES)
    assert postgres.sql("SET ROLE postroom_tenant; SELECT count(*) FROM mailboxes", name).split() == ["SET", "0"]


async def test_a_source_that_hides_rows_is_rejected(
    source: str, postgres: PostgresServer, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    origin = new_postgres_database()
    await copy_database(source, origin)
    execute(origin, "CREATE ROLE clerk LOGIN PASSWORD 'sesame'", postgres)
    execute(origin, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk", postgres)
    clerk = make_url(origin).set(username="clerk", password="sesame").render_as_string(hide_password=False)
    with pytest.raises(CopyFailed, match="row-level security policy"):
        await copy_database(clerk, f"sqlite+aiosqlite:///{tmp_path}/target.db")


async def test_a_source_of_another_version_is_rejected(source: str, tmp_path: Path, postgres: PostgresServer) -> None:
    target = f"sqlite+aiosqlite:///{tmp_path}/target.db"
    for revision, remedy in (("0001", "run `postroom migrate` on it first"), ("9999", "run a newer Postroom")):
        origin = copy_file(source, tmp_path)
        execute(origin, f"UPDATE alembic_version SET version_num = '{revision}'", postgres)
        with pytest.raises(CopyFailed, match=f"its schema is {revision}, where .* is expected: {remedy}$"):
            await copy_database(origin, target)
    assert not (tmp_path / "target.db").exists()
