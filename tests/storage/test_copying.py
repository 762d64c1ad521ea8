"""A whole database moves from one engine to the other: nothing of it is lost, changed, or copied twice."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg.cursor  # type: ignore[import-untyped]
import asyncpg.prepared_stmt  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Engine, event, make_url

from postroomd.storage.copy.copying import CopyFailed, ProgressCallback, Stage, copy_database
from postroomd.storage.migrations import migrate, require_current
from postroomd.storage.schema import DERIVED_TABLES, TENANT_TABLES, metadata
from tests.conftest import NewDatabase
from tests.support.factories import new_id, new_tenant
from tests.support.filled_database import MAILBOXES, copied_file, everything, execute, fill, tables_of, with_repository
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgresql")

CHUNK = 50


class Interrupted(Exception):
    """What ends a copy in its middle."""


def interrupting(done: Counter[str]) -> ProgressCallback:
    """Ends a copy after its first chunk, and counts what was done of each table."""
    begun: set[str] = set()

    def watch(stage: Stage, _total: int, table: str, rows: int) -> None:
        if stage is Stage.COPYING and table not in begun:
            begun.add(table)
            assert rows == done[table], "it goes on where it was"
        elif stage is Stage.COPYING:
            done[table] += rows
            raise Interrupted

    return watch


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite database with something in every table, which tests leave as it is."""
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('source')}/source.db"
    migrate(url)
    asyncio.run(with_repository(url, fill))
    return url


async def test_what_comes_back_from_postgresql_is_what_went_there(
    source: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    postgres.sql("CREATE DATABASE moved")  # neither target has a schema yet
    there, back = postgres.url("moved"), f"sqlite+aiosqlite:///{tmp_path}/new/back.db"
    copied = await copy_database(source, there, chunk_rows=CHUNK)
    assert await copy_database(there, back, chunk_rows=CHUNK) == copied
    rows = await everything(source)
    assert await everything(there) == await everything(back) == rows
    assert {each.table: each.rows for each in copied} == {name: len(found) for name, found in rows.items()}
    assert (tmp_path / "new/back.db").stat().st_mode & 0o777 == 0o600
    for url in (there, back):
        assert "copy_progress" not in await tables_of(url)
        await asyncio.to_thread(require_current, url)


async def test_the_source_has_rows_in_every_table_and_values_of_every_kind(source: str) -> None:
    rows = await everything(source)
    assert [name for name, found in rows.items() if not found] == []
    values = " ".join(row for found in rows.values() for row in found)
    assert [kind for kind in ("None", "True", "False", "café 𝄞", r"\x00\xff\n") if kind not in values] == []


def test_no_table_has_the_database_number_its_rows() -> None:
    # A copy carries rows alone: the numbers of the target would begin again.
    assert [table.name for table in metadata.sorted_tables if table.autoincrement_column is not None] == []


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_copy_goes_on_however_often_it_is_interrupted(
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
    rows = await everything(source)
    derived = {table.name for table in DERIVED_TABLES}
    assert interruptions == sum(-(-len(found) // CHUNK) for name, found in rows.items() if name not in derived)
    assert await everything(target) == rows


KILLED = f"""
import asyncio, os, signal
from postroomd.storage.copy.copying import Stage, copy_database
def watch(stage, total, table, rows):
    if stage is Stage.COPYING and table == "mailboxes" and rows == {CHUNK}:
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(copy_database(os.environ["SOURCE"], os.environ["TARGET"], progress=watch, chunk_rows={CHUNK}))
"""


async def test_a_copy_that_is_killed_goes_on(source: str, new_postgres_database: NewDatabase) -> None:
    target = new_postgres_database()
    environment = {**os.environ, "SOURCE": source, "TARGET": target}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, env=environment)
    assert await process.wait() == -signal.SIGKILL
    assert "copy_progress" in await tables_of(target)
    steps: list[tuple[Stage, int, str, int]] = []
    await copy_database(source, target, progress=lambda *step: steps.append(step))
    copied = [rows for stage, _, table, rows in steps if stage is Stage.COPYING and table == "mailboxes"]
    assert copied == [CHUNK, MAILBOXES - CHUNK]  # what was there, and then the rest in one chunk
    assert await everything(target) == await everything(source)


async def test_a_target_with_rows_is_refused_and_left_alone(source: str, new_postgres_database: NewDatabase) -> None:
    target = new_postgres_database()
    await with_repository(target, new_tenant)
    before = await everything(target)
    with pytest.raises(CopyFailed, match=r"it is not empty: there are rows in organizations$"):
        await copy_database(source, target)
    assert await everything(target) == before
    assert "copy_progress" not in await tables_of(target)


async def test_a_target_with_tables_of_others_is_refused(source: str, postgres: PostgresServer) -> None:
    postgres.sql("CREATE DATABASE taken")
    postgres.sql("CREATE TABLE invoices (id int)", "taken")
    with pytest.raises(CopyFailed, match=r"not empty: it has tables that are not Postroom's$"):
        await copy_database(source, postgres.url("taken"))
    assert await tables_of(postgres.url("taken")) == ["invoices"]


async def test_an_unfinished_copy_takes_no_other_source_and_is_none(
    source: str, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    target, changed = new_postgres_database(), copied_file(source, tmp_path)
    await with_repository(changed, new_tenant)
    with pytest.raises(Interrupted):
        await copy_database(source, target, progress=interrupting(Counter()))
    before = await everything(target)
    with pytest.raises(CopyFailed, match="an unfinished copy of another source, or of this one before that changed"):
        await copy_database(changed, target)
    with pytest.raises(CopyFailed, match=r"it is an unfinished copy itself$"):
        await copy_database(target, f"sqlite+aiosqlite:///{tmp_path}/other.db")
    assert await everything(target) == before
    await copy_database(copied_file(source, tmp_path), target)  # the same contents, wherever they are now
    assert await everything(target) == await everything(source)


@pytest.mark.parametrize(
    ("corruption", "corrupted"),
    [
        ("UPDATE mailboxes SET password_hash = 'x' WHERE email = 'm000@example.org'", "mailboxes"),
        ("DELETE FROM api_keys WHERE read_only", "api_keys"),
        ("UPDATE domain_counts SET count = count + 1", "domain_counts"),
    ],
)
async def test_a_target_that_came_to_differ_is_found_out(
    source: str, corruption: str, corrupted: str, postgres: PostgresServer, new_postgres_database: NewDatabase
) -> None:
    target = new_postgres_database()

    def corrupt(stage: Stage, _total: int, table: str, _rows: int) -> None:
        if (stage, table) == (Stage.COPYING, "aliases"):
            execute(target, corruption, postgres)

    for watch in (corrupt, lambda *_: None):  # another look does not make it better
        with pytest.raises(CopyFailed, match=f"after the copy it differs from the source in {corrupted};"):
            await copy_database(source, target, progress=watch)
        assert "copy_progress" in await tables_of(target)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_what_is_written_to_the_source_meanwhile_is_not_copied(
    source: str, engine: str, postgres: PostgresServer, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    origin, target = copied_file(source, tmp_path), f"sqlite+aiosqlite:///{tmp_path}/target.db"
    if engine == "postgresql":
        origin = new_postgres_database()
        await copy_database(source, origin)

    def write(stage: Stage, _total: int, table: str, _rows: int) -> None:
        if (stage, table) == (Stage.COPYING, "organizations"):
            execute(origin, f"INSERT INTO organizations VALUES ('{new_id()}', 1)", postgres)

    await copy_database(origin, target, progress=write)
    assert await everything(target) == await everything(source) != await everything(origin)


async def test_texts_are_in_one_order_on_both_engines_whatever_the_locale(
    source: str, new_postgres_database: NewDatabase
) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await copy_database(source, new_postgres_database())
    finally:
        event.remove(Engine, "before_cursor_execute", note)
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
    await asyncio.to_thread(migrate, back)  # which reads the catalog as it likes
    spy(aiosqlite.Cursor, "fetchall")
    spy(aiosqlite.Cursor, "fetchmany")
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


async def test_a_source_that_hides_rows_is_refused(
    source: str, postgres: PostgresServer, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    origin = new_postgres_database()
    await copy_database(source, origin)
    execute(origin, "CREATE ROLE clerk LOGIN PASSWORD 'sesame'", postgres)
    execute(origin, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk", postgres)
    clerk = make_url(origin).set(username="clerk", password="sesame").render_as_string(hide_password=False)
    with pytest.raises(CopyFailed, match="the user may not see or write every row"):
        await copy_database(clerk, f"sqlite+aiosqlite:///{tmp_path}/target.db")


async def test_a_source_of_another_version_is_refused(source: str, tmp_path: Path, postgres: PostgresServer) -> None:
    target = f"sqlite+aiosqlite:///{tmp_path}/target.db"
    for revision, remedy in (("0001", "run `postroom migrate` on it first"), ("9999", "run a newer Postroom")):
        origin = copied_file(source, tmp_path)
        execute(origin, f"UPDATE alembic_version SET version_num = '{revision}'", postgres)
        with pytest.raises(CopyFailed, match=f"its schema is {revision}, where .* is expected: {remedy}$"):
            await copy_database(origin, target)
    assert not (tmp_path / "target.db").exists()
