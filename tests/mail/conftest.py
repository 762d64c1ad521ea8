"""Fixtures: Postroom on each engine in turn, with stock mail servers on its database."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroomd.storage.migrations import migrate
from tests.mail.clients import Mail
from tests.mail.packages import require_packages
from tests.mail.postroom import Postroom, running_postroom
from tests.mail.servers import HOSTNAME, MAIL_GROUP, MAIL_USER, RSPAMD_USER, MailServers, Ports, Sink
from tests.support.certificates import Authority
from tests.support.postgres import running_server
from tools.postgres import PostgresServer, server_directory

MAIL_PASSWORD = secrets.token_urlsafe(24)


@dataclass(frozen=True)
class World:
    """Postroom, mail servers on its database, their clients, and another host."""

    postroom: Postroom
    servers: MailServers
    mail: Mail
    sink: Sink
    postgres: PostgresServer | None
    database_file: Path | None

    password: str = MAIL_PASSWORD

    @property
    def psql_directory(self) -> Path | None:
        """Where psql is, if the database is PostgreSQL's."""
        return self.postgres.programs if self.postgres else None

    @staticmethod
    def _change_log(file: Path, mode: int) -> None:
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).chmod(mode)

    @contextmanager
    def database_unavailable(self) -> Iterator[None]:
        """Stop PostgreSQL, or take the right to read SQLite's log away; undone afterwards.

        Postfix remembers for a minute that PostgreSQL did not respond, until it is restarted: a reload is in effect
        only some time after its signal.
        """
        if self.postgres:
            self.postgres.stop()
        if self.database_file:
            self._change_log(self.database_file, 0)
            self.servers.restart()
        try:
            yield
        finally:
            if self.postgres:
                self.postgres.start()
            if self.database_file:
                self._change_log(self.database_file, 0o640)
                self.servers.restart()
            else:
                self.servers.restart_postfix()


@pytest.fixture(scope="session")
def packages() -> None:
    require_packages()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, packages: None) -> Iterator[World]:
    """A whole installation on each engine in turn, which the tests of the engine share."""
    with ExitStack() as cleanups:
        directory = cleanups.enter_context(server_directory())
        postgres = file = None
        if request.param == "postgresql":
            postgres = request.getfixturevalue("mail_postgres")
            postgres.sql("CREATE DATABASE mail")
            url = postgres.url("mail")
        else:
            file = private_database(directory)
            url = f"sqlite+aiosqlite:///{file}"
        migrate(url)
        sink = cleanups.enter_context(Sink().running())
        ports = Ports.choose()
        key_file = directory / "doveadm-key"
        key_file.touch(0o600)
        key_file.write_text(secrets.token_hex(24) + "\n")
        servers = MailServers(directory, ports, sink.port)
        readable_by(servers.dkim_directory, RSPAMD_USER)
        worker = (
            *(f"--doveadm-url=http://127.0.0.1:{ports.doveadm}/doveadm/v1", f"--doveadm-key-file={key_file}"),
            *(f"--dkim-directory={servers.dkim_directory}", "--dkim-interval-seconds=0.2"),
        )
        postroom = cleanups.enter_context(running_postroom(directory, url, *worker))
        authority = Authority(directory / "certificates")
        files = authority.issue("mail", HOSTNAME)
        if postgres:
            postroom.command("mail-role", "create", POSTROOM_MAIL_PASSWORD=MAIL_PASSWORD)
        common = (
            *(f"--hostname={HOSTNAME}", f"--tls-cert={files.cert}", f"--tls-key={files.key}"),
            f"--queue-directory={servers.queue_directory}",
        )
        postroom.command(
            *("mail-config", "dovecot", f"--output={servers.dovecot_directory}", *common),
            *(f"--mail-directory={servers.mail_directory}", f"--mail-user={MAIL_USER}", f"--mail-group={MAIL_GROUP}"),
            *(f"--doveadm-port={ports.doveadm}", f"--doveadm-key-file={key_file}"),
            POSTROOM_MAIL_PASSWORD=MAIL_PASSWORD,
        )
        postroom.command(
            *("mail-config", "postfix", f"--output={servers.postfix_directory}", *common, "--aliases-may-send"),
            *(f"--forward-port={ports.forward}", f"--srs-forward-port={ports.srs_forward}"),
            *(f"--srs-reverse-port={ports.srs_reverse}", f"--milter=inet:127.0.0.1:{ports.rspamd}"),
            POSTROOM_MAIL_PASSWORD=MAIL_PASSWORD,
        )
        postroom.command(
            *("mail-config", "rspamd", f"--output={servers.rspamd_directory}", f"--hostname={HOSTNAME}"),
            *(f"--port={ports.rspamd}", f"--dkim-directory={servers.dkim_directory}"),
        )
        servers.prepare()
        cleanups.callback(servers.stop)
        servers.start()
        tls = authority.client_context()
        tls.check_hostname = False  # the certificate has the host's name, and the address is on loopback
        yield World(postroom, servers, Mail(servers, tls), sink, postgres, file)


@pytest.fixture(autouse=True)
def servers_run(request: pytest.FixtureRequest) -> None:
    """Have a test fail at once if a server has exited, before its clients wait for replies."""
    if "world" in request.fixturenames:
        request.getfixturevalue("world").servers.check()


@pytest.fixture(scope="session")
def mail_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own, which a test stops."""
    with running_server(settings={"fsync": "off", "full_page_writes": "off"}) as server:
        yield server


def private_database(directory: Path) -> Path:
    """Create an empty SQLite file as docs/mail-server.md says: its group, and no other, reads it and its log."""
    folder = directory / "data"
    readable_by(folder, "postfix")
    file = folder / "postroom.db"
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o640))
    file.chmod(0o640)
    return file


def readable_by(folder: Path, group: str) -> None:
    """Create a directory whose files get a group, as docs/mail-server.md says."""
    folder.mkdir()
    shutil.chown(folder, "root", group)
    folder.chmod(0o2750)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the mail servers' logs with a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined] # pluggy's Result
    world = getattr(item, "funcargs", {}).get("world")
    if report.when == "call" and report.failed and isinstance(world, World):
        report.sections.append(("mail servers", world.servers.logs()))
