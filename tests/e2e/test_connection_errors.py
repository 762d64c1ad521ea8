"""A database that can't be opened: one line on stderr names it, its user and the cause, and holds no password."""

import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import socketserver
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg  # type: ignore[import-untyped]
import pytest
from sqlalchemy import make_url, text

from postroomd.cli.app import run
from postroomd.domain.errors import StorageUnavailable
from postroomd.settings import load_settings
from postroomd.storage.drivers import driver_for, open_engines, sqlite
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from tests.e2e import support
from tests.support.certificates import Authority
from tests.support.databases import NewDatabase
from tools.ports import free_port
from tools.postgres import PostgresServer

PASSWORD = "correct-horse"
COMMANDS = (
    ("migrate",),
    ("keys", "list"),
    ("keys", "create", "--new-organization"),
    ("projects", "list"),
    ("admin-keys", "list"),
    ("projects", "set-quota", "0" * 8 + "-0000-4000-8000-" + "0" * 12, "5"),
    ("clock", "status"),
    ("serve", "--grpc-address=127.0.0.1:0"),
    ("worker",),
)

CASES: dict[str, tuple[str, str]] = {
    "wrong password": (
        "postgresql+asyncpg://limited:sesame@{host}/{name}",
        'password authentication failed for user "limited": check user, password and the server\'s pg_hba.conf',
    ),
    "unknown role": (
        "postgresql+asyncpg://nobody:sesame@{host}/{name}",
        'password authentication failed for user "nobody": check user, password and the server\'s pg_hba.conf',
    ),
    "missing database": (
        "postgresql+asyncpg://limited:{password}@{host}/nothing",
        'database "nothing" does not exist: create the database first',
    ),
    "no permission": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}",
        "permission denied for table alembic_version: connect as the owner of the tables, or have an administrator"
        " grant it",
    ),
    "no TLS": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}?sslmode=require",
        "the server has no TLS, which sslmode requires: enable it there, or change sslmode in the URL",
    ),
    "no server": (
        "postgresql+asyncpg://limited:{password}@127.0.0.1:{free}/{name}",
        "the server refuses connections: check host and port, and whether it runs",
    ),
    "unknown host": (
        "postgresql+asyncpg://limited:{password}@nowhere.invalid/{name}",
        "the host name can't be resolved: ",
    ),
    "missing certificate": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}?sslmode=verify-full&sslrootcert=/nowhere/root.crt",
        "sslrootcert /nowhere/root.crt: No such file or directory",
    ),
    "invalid certificate": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}?sslmode=verify-ca&sslrootcert=/dev/null",
        "TLS fails: NO_CERTIFICATE_OR_CRL_FOUND: check sslrootcert /dev/null",
    ),
    "unknown setting of the server": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}?options=-c%20nonsense%3D1",
        'unrecognized configuration parameter "nonsense": correct the parameters of the URL',
    ),
    "invalid setting of the server": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}?options=-c%20work_mem%3Dmuch",
        'invalid value for parameter "work_mem": "much": correct the parameters of the URL',
    ),
    "another kind of server": (
        "postgresql+asyncpg://limited:{password}@{host}/{name}?target_session_attrs=read-only",
        "the server is not read-only, which target_session_attrs requires: correct the host or the parameter",
    ),
    "closed database": (
        "postgresql+asyncpg://limited:{password}@{host}/closed",
        'database "closed" is not currently accepting connections: have an administrator allow connections to it',
    ),
    "an HTTP server": (
        "postgresql+asyncpg://limited:{password}@127.0.0.1:{http}/{name}",
        "what listens there is no PostgreSQL server: check host and port",
    ),
    "an HTTP server, and TLS required": (
        "postgresql+asyncpg://limited:{password}@127.0.0.1:{http}/{name}?sslmode=require",
        "the server has no TLS, which sslmode requires: enable it there, or change sslmode in the URL, or the port",
    ),
    "an HTTP server, without TLS": (
        "postgresql+asyncpg://limited:{password}@127.0.0.1:{http}/{name}?sslmode=disable",
        "",
    ),
    "invalid host name": (
        "postgresql+asyncpg://limited:{password}@a..b:{free}/{name}",
        "",
    ),
}


@pytest.fixture(scope="module")
def limited(postgres: PostgresServer) -> Iterator[None]:
    """A role without privileges, and a database that allows no connections."""
    postgres.sql(f"CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}'")
    postgres.sql("CREATE DATABASE closed ALLOW_CONNECTIONS false")
    yield
    postgres.sql("DROP DATABASE closed")
    postgres.sql("DROP ROLE limited")


class RejectsEverything(socketserver.BaseRequestHandler):
    """Answers whatever comes first as an HTTP server does."""

    def handle(self) -> None:
        self.request.recv(1_024)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    """The port of an HTTP server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RejectsEverything) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def url_of(template: str, postgres: PostgresServer, database: str, http_port: int = 0) -> str:
    """The URL of a case."""
    values: dict[str, Any] = {"password": PASSWORD, "free": free_port(), "host": f"127.0.0.1:{postgres.port}"}
    return template.format(name=make_url(database).database, http=http_port, **values)


def require_one_line(line: str, url: str, cause: str) -> None:
    """Check that stderr is one line with host, user, database and cause, and without the password."""
    parsed = make_url(url)
    where = f"PostgreSQL {parsed.host}:{parsed.port or 5432}/{parsed.database}, user {parsed.username}"
    assert line.startswith(f"postroom: {where}: {cause}")
    assert line.count("\n") == 1
    assert str(parsed.password) not in line


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", [("keys", "list"), ("migrate",)], ids=" ".join)
def test_a_database_that_cannot_be_opened_is_one_line(
    postgres: PostgresServer,
    new_postgres_database: NewDatabase,
    http_port: int,
    case: str,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    template, cause = CASES[case]
    url = url_of(template, postgres, new_postgres_database(), http_port)
    assert run([*command, f"--database-url={url}"]) == 1
    printed = capsys.readouterr()
    require_one_line(printed.err, url, cause)
    assert printed.out == ""


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_reports_it_in_one_line(
    postgres: PostgresServer, new_postgres_database: NewDatabase, command: tuple[str, ...]
) -> None:
    template, cause = CASES["wrong password"]
    url = url_of(template, postgres, new_postgres_database())
    completed = support.run_process(*command, POSTROOM_DATABASE_URL=url)
    assert completed.returncode == 1
    require_one_line(completed.stderr, url, cause)


@pytest.mark.usefixtures("limited")
def test_up_reports_it_in_one_line(postgres: PostgresServer, new_postgres_database: NewDatabase) -> None:
    template, cause = CASES["wrong password"]
    url = url_of(template, postgres, new_postgres_database())
    flags = ("--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0")
    completed = support.run_process("up", *flags, POSTROOM_DATABASE_URL=url)
    assert completed.returncode == 1
    require_one_line(completed.stderr, url, cause)


@pytest.mark.usefixtures("limited")
def test_a_user_that_may_not_create_roles_is_one_line(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres.sql("CREATE DATABASE limited OWNER limited")
    try:
        url = f"postgresql+asyncpg://limited:{PASSWORD}@127.0.0.1:{postgres.port}/limited"
        assert run(["migrate", f"--database-url={url}"]) == 1
        require_one_line(capsys.readouterr().err, url, "the user may not create the role postroom_tenant: ")
    finally:
        postgres.sql("DROP DATABASE limited")


@pytest.mark.parametrize(
    ("query", "setting", "shown"),
    [
        ("sslmode=prefer", "application_name", ""),
        ("ssl=prefer", "application_name", ""),
        ("sslmode=disable&connect_timeout=3&application_name=a%20b", "application_name", "a b"),
        ("options=-c%20statement_timeout%3D9s&gssencmode=prefer&channel_binding=prefer", "statement_timeout", "9s"),
    ],
)
async def test_parameters_of_libpq_have_their_effect(
    new_postgres_database: NewDatabase, query: str, setting: str, shown: str
) -> None:
    url = await asyncio.to_thread(new_postgres_database)
    engines = open_engines(f"{url}?{query}", owner=False, pool_size=1)
    try:
        async with engines.writer.connect() as connection:
            assert (await connection.execute(text(f"SHOW {setting}"))).scalar_one() == shown
    finally:
        await engines.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+asyncpg://ann:p@ss@127.0.0.1/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:p/ss@127.0.0.1/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:p?ss@127.0.0.1/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:p@ss/w#rd@127.0.0.1:23050/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:p@ss#w/rd@127.0.0.1/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:p@ss?w=rd@127.0.0.1/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:p@ss/w?rd@127.0.0.1/db", "percent-encode @ / ? # and % in user and password"),
        ("postgresql+asyncpg://ann:pass@127.0.0.1:0/db", "has an invalid port: expected 1 to 65535"),
        (
            "postgresql+asyncpg://ann:pass@127.0.0.1:99999/db",
            "has an invalid port: expected 1 to 65535",
        ),
        ("postgresql+asyncpg://ann:pass@[::1]:65536/db", "has an invalid port: expected 1 to 65535"),
        (
            "postgresql+asyncpg://ann:pass@/db?host=/tmp&port=0",
            "has an invalid port: expected 1 to 65535",
        ),
        (
            "postgresql+asyncpg://ann:pass@127.0.0.1/db?sslmode=always",
            "has an invalid sslmode: expected disable",
        ),
        ("postgresql+asyncpg://ann:pass@127.0.0.1/db?ssl=True", "has an invalid ssl: expected disable, allow,"),
        (
            "postgresql+asyncpg://ann:pass@127.0.0.1/db?target_session_attrs=x",
            "has an invalid target_session_attrs: expected any, primary, standby, read-write, read-only,",
        ),
        (
            "postgresql+asyncpg://ann:pass@127.0.0.1/db?connect_timeout=soon",
            "invalid connect_timeout: expected second",
        ),
        ("postgresql+asyncpg://ann:pass@127.0.0.1/db?sslmod=require", "has an unknown parameter, sslmod: remove it"),
        ("postgresql+asyncpg://ann:pass@127.0.0.1:port/db", "expected postgresql+asyncpg://USER:PASSWORD@HOST:PORT"),
        ("postgresql://ann:pass@127.0.0.1/db", "expected sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER"),
    ],
)
def test_an_ambiguous_url_is_refused(url: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["migrate", f"--database-url={url}"], ["copy", f"--from={url}", "--to=sqlite+aiosqlite:///x.db"]):
        assert run(arguments) == 2
        printed = capsys.readouterr().err
        assert reason in printed
        assert printed.count("\n") == 1
        assert "ss@" not in printed
        assert ":p" not in printed
        assert "rd" not in printed.replace("password", "")


@pytest.mark.parametrize(
    ("url", "described"),
    [
        ("postgresql+asyncpg://ann:pw@h/db", "PostgreSQL h:5432/db"),
        ("postgresql+asyncpg://ann:pw@[::1]:1234/db", "PostgreSQL [::1]:1234/db"),
        ("postgresql+asyncpg://ann:pw@/db?host=/run/pg&port=23051", "PostgreSQL /run/pg:23051/db"),
        ("postgresql+asyncpg://ann:pw@%2Frun%2Fpg:23051/db", "PostgreSQL /run/pg:23051/db"),
        ("postgresql+asyncpg://ann:pw@/db?host=a:1&host=b:2", "PostgreSQL a:1,b:2/db"),
        ("postgresql+asyncpg://ann:p@ss/w#rd@127.0.0.1/db", "PostgreSQL ss:5432/…"),
    ],
)
def test_a_location_names_host_and_port_and_no_part_of_a_password(url: str, described: str) -> None:
    assert driver_for(url).describe(make_url(url)) == described


@pytest.mark.parametrize("query", ["statement_cache_size=0&command_timeout=60", "sslmode=disable&direct_tls=false"])
async def test_parameters_of_the_driver_are_converted(new_postgres_database: NewDatabase, query: str) -> None:
    url = await asyncio.to_thread(new_postgres_database)
    await (await open_repository(f"{url}?{query}")).close()


async def test_an_unexpected_error_of_the_driver_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(**options: Any) -> None:
        raise TypeError(f"{options['password']} of {options['user']}\nis no number")

    monkeypatch.setattr(asyncpg, "connect", fail)
    with pytest.raises(StorageUnavailable) as raised:
        await open_repository(f"postgresql+asyncpg://ann:{PASSWORD}@h/db")
    assert raised.value.reason == "PostgreSQL h:5432/db, user ann: the driver fails: … of ann"


async def test_a_unix_socket_serves(new_postgres_database: NewDatabase) -> None:
    """The URL names the directory and the port of the socket, in either form of libpq."""
    url = make_url(await asyncio.to_thread(new_postgres_database))
    directory = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path has at most 107 octets

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(url.host, url.port)
        await asyncio.gather(_pipe(reader, server_writer), _pipe(server_reader, writer), return_exceptions=True)

    server = await asyncio.start_unix_server(forward, directory / ".s.PGSQL.23051")
    try:
        for place in (
            f"/{url.database}?host={directory}&port=23051",
            f"{quote(str(directory), '')}:23051/{url.database}",
        ):
            located = f"postgresql+asyncpg://{url.username}:{url.password}@{place}"
            await asyncio.to_thread(migrate, load_settings({"database_url": located}).database_url.get_secret_value())
    finally:
        server.close()
        shutil.rmtree(directory)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(65_536):
        writer.write(octets)
    writer.close()


@pytest.mark.parametrize("process", ["serve", "worker"])
def test_a_process_does_not_start_on_a_read_only_database(
    postgres: PostgresServer, new_postgres_database: NewDatabase, process: str
) -> None:
    url = new_postgres_database()
    migrate(url)
    postgres.sql(f"ALTER DATABASE {make_url(url).database} SET default_transaction_read_only = on")
    completed = support.run_process(process, "--log-level=error", POSTROOM_DATABASE_URL=url)
    assert completed.returncode == 1
    cause = "it is read-only, as a standby is: connect to the primary, or have an administrator reset"
    require_one_line(completed.stderr, url, f"{cause} default_transaction_read_only")


def test_another_owner_of_a_database_of_the_server_is_told_how_to_join_the_role(
    postgres: PostgresServer, new_postgres_database: NewDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate(new_postgres_database())  # so that the role of tenants exists
    postgres.sql(f"CREATE ROLE second LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
    postgres.sql("CREATE DATABASE second OWNER second")
    try:
        url = f"postgresql+asyncpg://second:{PASSWORD}@127.0.0.1:{postgres.port}/second"
        assert run(["migrate", f"--database-url={url}"]) == 1
        remedy = "have an administrator run GRANT postroom_tenant TO second\n"
        printed = capsys.readouterr().err
        require_one_line(printed, url, "the user may not join the role postroom_tenant, which another user of this")
        assert printed.endswith(remedy)
        postgres.sql("GRANT postroom_tenant TO second")
        assert run(["migrate", f"--database-url={url}"]) == 0
        assert run(["keys", "create", "--new-organization", f"--database-url={url}"]) == 0
    finally:
        postgres.sql("DROP DATABASE second")
        postgres.sql("DROP ROLE second")


def _not_a_file(directory: Path, kind: str) -> Path:
    path = directory / "postroom.db"
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case _:
            path.symlink_to("/dev/null")
    return path


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a device"])
def test_a_path_that_leads_to_no_file_is_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = _not_a_file(tmp_path, kind)
    url = f"sqlite+aiosqlite:///{path}"
    cause = f"{path}: it is {kind}, where a database file is expected: correct the path"
    for command in (("keys", "list"), ("migrate",), ("serve",), ("worker",), ("restore", __file__)):
        assert run([*command, f"--database-url={url}"]) == 1
        assert capsys.readouterr().err == f"postroom: {cause}\n"
    with pytest.raises(StorageUnavailable) as raised:
        migrate(url)
    assert raised.value.reason == f"SQLite {cause}"
    assert [*tmp_path.iterdir()] == [path]  # and no lock beside it


@pytest.mark.parametrize("kind", ["a directory", "a file that can't be opened"])
def test_doctor_reports_nothing_but_its_findings(tmp_path: Path, kind: str, http_port: int) -> None:
    path = tmp_path / "postroom.db"
    if kind == "a directory":
        path.mkdir()
    else:
        path.write_text("text\n" * 1_000)
    issued = Authority(tmp_path).issue("service", "localhost")
    flags = (f"--grpc-address=127.0.0.1:{http_port}", f"--tls-cert={issued.cert}", f"--tls-key={issued.key}")
    completed = support.run_process(
        "doctor", "--output=json", *flags, POSTROOM_DATABASE_URL=f"sqlite+aiosqlite:///{path}"
    )
    assert (completed.returncode, completed.stderr) == (1, "")
    found = {each["check"]: each["detail"] for each in json.loads(completed.stdout)}
    assert str(path) in found["database"]
    assert "does not respond" in found["service"]


def test_a_locked_file_is_one_line(
    new_sqlite_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    url = new_sqlite_database()
    migrate(url)
    file = make_url(url).database
    with closing(sqlite3.connect(str(file), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        assert run(["keys", "list", f"--database-url={url}"]) == 1
    cause = "another process has locked the file: end its transaction, or the process"
    assert capsys.readouterr().err == f"postroom: SQLite {file}: {cause}\n"


@pytest.mark.parametrize("command", [("keys", "list"), ("migrate",), ("worker",)], ids=" ".join)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.db").write_text("text\n" * 1_000)
    assert run([*command, f"--database-url=sqlite+aiosqlite:///{tmp_path}/text.db"]) == 1
    cause = f"SQLite {tmp_path}/text.db: the file is not an SQLite database, or is damaged"
    assert capsys.readouterr().err == f"postroom: {cause}\n"


def _create_key_as_another_user(directory: str, written: Any) -> None:
    """Create a key in a database that this process may only read."""
    url = f"sqlite+aiosqlite:///{directory}/postroom.db"
    run(["keys", "list", f"--database-url={url}"])  # loads every module, which another user may not be able to read
    if os.geteuid() == 0:
        os.setgid(65_534)
        os.setuid(65_534)
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        code = run(["keys", "create", "--new-organization", f"--database-url={url}"])
    written.put((code, stream.getvalue().splitlines()[-1:]))


@pytest.mark.parametrize("directory_mode", [0o555, 0o777], ids=["directory and file", "file"])
def test_a_read_only_file_is_one_line(tmp_path: Path, directory_mode: int) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    migrate(f"sqlite+aiosqlite:///{directory}/postroom.db")
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(directory_mode)
    context = multiprocessing.get_context("spawn")
    written = context.Queue()
    process = context.Process(target=_create_key_as_another_user, args=(str(directory), written))
    process.start()
    code, printed = written.get(timeout=60)
    process.join()
    directory.chmod(0o755)
    assert code == 1
    cause = "this user can't write to the file or its directory: change their owner or mode"
    assert printed == [f"postroom: SQLite {directory}/postroom.db: {cause}"]


@pytest.mark.parametrize("process", ["owner", "worker"])
async def test_a_process_does_not_start_on_a_file_that_it_may_only_read(
    new_sqlite_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    url = await asyncio.to_thread(new_sqlite_database)
    file = str(make_url(url).database)
    # Mode bits do not bind root, who may run the tests.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or str(path) != file)
    with pytest.raises(StorageUnavailable) as raised:
        await open_repository(url, owner=process == "owner", worker=process == "worker")
    assert raised.value.reason.startswith(f"SQLite {file}: this user can't write to the file")
    await (await open_repository(url)).close()  # a command may read
