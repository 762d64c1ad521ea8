"""`postroom copy` as a process: output and exit codes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from postroomd.cli.app import run
from postroomd.storage.copy.copying import CopyFailed, copy_database
from postroomd.storage.migrations import HEAD, migrate
from tests.support.databases import NewDatabase
from tests.support.filled_database import all_rows, execute, fill
from tools.ports import free_port
from tools.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgresql")


def copy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    return subprocess.run(
        [sys.executable, "-m", "postroomd", "copy", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**inherited, **environment},
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite database with rows in every table, which tests must not change."""
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('source')}/source.db"
    migrate(url)
    fill(url)
    return url


def test_a_copy_is_configured_by_flags_or_variables(
    source: str, postgres: PostgresServer, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    target, back = new_postgres_database(), f"sqlite+aiosqlite:///{tmp_path}/back.db"
    name = make_url(target).database
    completed = copy("--from", source, "--to", target)
    assert completed.returncode == 0
    lines = completed.stderr.splitlines()
    assert lines[0] == f"copying SQLite {make_url(source).database} to PostgreSQL 127.0.0.1:{postgres.port}/{name}"
    assert [line.split()[0] for line in lines[1:]] == ["reading", "copying", "checking"]
    assert postgres.password not in completed.stderr + completed.stdout
    rows = asyncio.run(all_rows(source))
    summary = [line.split() for line in completed.stdout.splitlines()[1:]]
    assert {table: int(count) for table, count, _ in summary} == {table: len(stored) for table, stored in rows.items()}
    assert {len(checksum) for *_, checksum in summary} == {64}

    # Progress bars on a terminal, which rich assumes with these variables.
    completed = copy(POSTROOM_COPY_FROM=target, POSTROOM_COPY_TO=back, TTY_COMPATIBLE="1", TERM="xterm", COLUMNS="120")
    assert completed.returncode == 0
    assert all(
        f"{stage} " in completed.stderr and "━━" in completed.stderr for stage in ("reading", "copying", "checking")
    )
    assert asyncio.run(all_rows(back)) == rows


@pytest.mark.parametrize(
    ("source_url", "target_url", "line"),
    [
        (None, "sqlite+aiosqlite:///b.db", "--from or POSTROOM_COPY_FROM: expected the URL of a database"),
        ("sqlite+aiosqlite:///a.db", None, "--to or POSTROOM_COPY_TO: expected the URL of a database"),
        (
            "mysql://user:sesame@host/db",
            "sqlite+aiosqlite:///b.db",
            "--from or POSTROOM_COPY_FROM: expected sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER:PASSWORD@HOST/NAME,"
            " such as sqlite+aiosqlite:///data/postroom.db",
        ),
        (
            "sqlite+aiosqlite:///a.db",
            "postgresql+asyncpg://user:sesame@host:port/db",
            "--to or POSTROOM_COPY_TO: expected postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME, with a number for"
            " PORT",
        ),
        (
            "sqlite+aiosqlite:///a.db",
            "sqlite+aiosqlite:///data/../a.db",
            "--from and --to: both are the same database",
        ),
        (
            "postgresql+asyncpg://user:sesame@Host/db",
            "postgresql+asyncpg://other@host:5432/db",
            "--from and --to: both are the same database",
        ),
    ],
)
def test_invalid_arguments_are_named_and_not_repeated(
    source_url: str | None, target_url: str | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"{flag}={url}" for flag, url in (("--from", source_url), ("--to", target_url)) if url]
    assert run(["copy", *flags]) == 2
    assert capsys.readouterr() == ("", f"postroom: {line}\n")


def test_a_failure_is_one_line(source: str, new_postgres_database: NewDatabase, postgres: PostgresServer) -> None:
    target = new_postgres_database()
    execute(target, "INSERT INTO organizations VALUES (gen_random_uuid(), 1)", postgres)
    completed = copy("--from", source, "--to", target)
    place = f"PostgreSQL 127.0.0.1:{postgres.port}/{make_url(target).database}"
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == f"postroom: {place}: it is not empty: there are rows in organizations\n"


async def test_a_failure_names_the_database_and_the_reason_but_no_password(
    source: str, postgres: PostgresServer, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    target, nowhere = new_postgres_database(), free_port()
    empty, text = tmp_path / "empty.db", tmp_path / "text.db"
    empty.touch()
    text.write_text("no database at all, but a text that is longer than the header of one " * 9)
    server, name = f"PostgreSQL 127.0.0.1:{postgres.port}", make_url(target).database
    user, port = ", user postgres", f"127.0.0.1:{nowhere}"
    for source_url, target_url, line in (
        (
            source,
            postgres.url("nothing"),
            f'{server}/nothing{user}: database "nothing" does not exist: create the database first',
        ),
        (
            source,
            target.replace(postgres.password, "sesame"),
            f'{server}/{name}{user}: password authentication failed for user "postgres": check user, password and the'
            " server's pg_hba.conf",
        ),
        (
            source,
            f"postgresql+asyncpg://postgres:sesame@127.0.0.1:{nowhere}/db",
            f"PostgreSQL {port}/db{user}: the server refuses connections: check host and port, and whether it runs",
        ),
        (source, f"{target}?sslmod=prefer", "the database URL has an unknown parameter, sslmod: remove it"),
        (
            source,
            f"sqlite+aiosqlite:///{tmp_path}",
            f"SQLite {tmp_path}: it is a directory, where a database file is expected: correct the path",
        ),
        (f"sqlite+aiosqlite:///{tmp_path}/no.db", target, f"SQLite {tmp_path}/no.db: there is no database"),
        (f"sqlite+aiosqlite:///{text}", target, f"SQLite {text}: the file is not an SQLite database, or is damaged"),
        (
            f"sqlite+aiosqlite:///{empty}",
            target,
            f"SQLite {empty}: its schema is missing, where {HEAD} is expected: run `postroom migrate` on it first",
        ),
    ):
        with pytest.raises(CopyFailed) as failed:
            await copy_database(source_url, target_url)
        assert str(failed.value) == line
    assert not (tmp_path / "no.db").exists()
