"""The files of the mail servers: what is in them, and their modes."""

import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from postroomd.domain.addresses import canonical_local_part
from postroomd.mailserver.files import FILES, ConfigFile
from postroomd.mailserver.options import (
    DatabaseAccess,
    LockedDelivery,
    MailServer,
    database_access,
    require_different_ports,
    require_milter,
    require_system_name,
)
from postroomd.mailserver.writing import FilesExist, write_files

PASSWORD = "p@ss:word/of-the-role"
SQLITE = database_access("sqlite+aiosqlite:////var/lib/postroom/postroom.db", user="mail", password="")
POSTGRESQL = database_access(
    "postgresql+asyncpg://postroom:owner@db.internal:5433/postroom?sslmode=verify-full", user="mail", password=PASSWORD
)
SERVER = MailServer(
    database=SQLITE,
    hostname="mail.example.org",
    directory=Path("/etc/dovecot"),
    tls_cert=Path("/etc/ssl/mail.pem"),
    tls_key=Path("/etc/ssl/mail.key"),
)


def files(server: str, configured: MailServer) -> dict[str, ConfigFile]:
    return {file.name: file for file in FILES[server](configured)}


@pytest.mark.parametrize("server", FILES)
@pytest.mark.parametrize("database", [SQLITE, POSTGRESQL], ids=["sqlite", "postgresql"])
def test_every_variable_is_filled_and_only_secret_files_have_the_password(
    server: str, database: DatabaseAccess
) -> None:
    for file in files(server, replace(SERVER, database=database)).values():
        assert "{{" not in file.text
        has_password = any(each in file.text for each in (PASSWORD, "p%40ss", "p@ss"))
        assert not has_password or file.secret, file.name
        assert "owner" not in file.text.partition("asyncpg")[2]


def test_every_accepted_character_of_a_local_part_can_log_in() -> None:
    (line,) = [
        line
        for line in files("dovecot", SERVER)["dovecot.conf"].text.splitlines()
        if line.startswith("auth_username_chars")
    ]
    allowed = line.partition(" = ")[2]
    for code in range(33, 127):
        try:
            accepted = canonical_local_part(f"x{chr(code)}x")
        except ValueError:
            continue
        assert accepted[1] in allowed, accepted
    assert "@" in allowed


def test_a_login_needs_one_lookup_which_has_the_fields_of_the_userdb() -> None:
    text = files("dovecot", SERVER)["postroom-sql.conf.ext"].text
    queries = dict(re.findall(r"(?m)^(\w+_query) = ((?:.*\\\n)*.*)$", text))
    fields = re.findall(r"AS (\w+)", queries["user_query"])
    assert re.findall(r"AS (\w+)", queries["password_query"]) == [*(f"userdb_{field}" for field in fields), "user"]
    assert re.findall(r"driver = (\w+)", files("dovecot", SERVER)["dovecot.conf"].text) == ["sql", "prefetch", "sql"]


@pytest.mark.parametrize(
    ("delivery", "code"), [(LockedDelivery.ACCEPT, None), (LockedDelivery.DEFER, "451"), (LockedDelivery.REJECT, "550")]
)
def test_mail_for_locked_mailboxes_is_accepted_deferred_or_refused(delivery: LockedDelivery, code: str | None) -> None:
    text = files("postfix", replace(SERVER, locked_delivery=delivery))["postroom-access.cf"].text
    assert ("'locked'" in text) == (code is not None)
    assert code is None or f"WHEN status = 'locked' THEN '{code}" in text


def test_aliases_send_on_request_only() -> None:
    assert "mail_v1_aliases" not in files("postfix", SERVER)["postroom-senders.cf"].text
    assert "mail_v1_aliases" in files("postfix", replace(SERVER, aliases_may_send=True))["postroom-senders.cf"].text


def test_a_milter_that_does_not_respond_defers_mail() -> None:
    text = files("postfix", replace(SERVER, milter="inet:127.0.0.1:11332"))["main.cf"].text
    assert "milter_default_action = tempfail" in text
    assert "\nsmtpd_milters" not in files("postfix", SERVER)["main.cf"].text


def test_rspamd_signs_for_logged_in_mailboxes_with_the_key_of_their_exact_domain_only() -> None:
    configured = replace(SERVER, dkim_directory=Path("/srv/dkim"), rspamd_port=11_999)
    written = files("rspamd", configured)
    signing = written["local.d/dkim_signing.conf"].text
    for line in (
        'selector_map = "/srv/dkim/selectors.map";',
        'path = "/srv/dkim/$domain.$selector.key";',
        *("try_fallback = false;", "sign_local = false;", "use_esld = false;"),
    ):
        assert line in signing.splitlines()
    assert 'bind_socket = "127.0.0.1:11999";' in written["local.d/worker-proxy.inc"].text


@pytest.mark.parametrize(
    ("url", "user", "password", "named"),
    [
        ("sqlite+aiosqlite:////var/lib/post room/x.db", "mail", "", "--database-url"),
        ("sqlite+aiosqlite:////var/lib/$x/x.db", "mail", "", "--database-url"),
        ("postgresql+asyncpg:///postroom", "mail", PASSWORD, "--database-url"),
        ("postgresql+asyncpg://u:p@host/na%20me", "mail", PASSWORD, "--database-url"),
        ("postgresql+asyncpg://u:p@host/name", "mail'; --", PASSWORD, "--name"),
        ("postgresql+asyncpg://u:p@host/name", "r" * 64, PASSWORD, "--name: must have at most 63 characters"),
        ("postgresql+asyncpg://u:p@host/name", "pg_mail", PASSWORD, "--name: PostgreSQL reserves pg_mail"),
        ("postgresql+asyncpg://u:p@host/name", "public", PASSWORD, "--name: PostgreSQL reserves public"),
        ("postgresql+asyncpg://u:p@host/name", "mail", "a 'quoted' password", "password"),
        ("postgresql+asyncpg://u:p@host/name", "mail", "%n$x", "password"),
    ],
)
def test_what_the_files_cannot_hold_is_refused_by_name(url: str, user: str, password: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        database_access(url, user=user, password=password)
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["nonsense", "inet:127.0.0.1", "11332", "inet:host:1\nmynetworks=::/0", "unix:", "inet:h:0"]
)
def test_what_is_no_address_of_a_milter_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="--milter: expected"):
        require_milter("--milter", address)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "1vmail", "-x", "ümail", "x" * 33, "a:b", "$x"])
def test_what_is_no_name_of_a_system_user_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^--mail-user: expected the name of a system user"):
        require_system_name("--mail-user", name)
    require_system_name("--mail-user", "_vmail.example-1")


def test_a_port_has_one_purpose() -> None:
    require_different_ports({"--a": 1, "--b": 2})
    with pytest.raises(ValueError, match=r"^--c: 1 is the port of --a too: choose another$"):
        require_different_ports({"--a": 1, "--b": 2, "--c": 1})


@pytest.mark.parametrize("address", ["", "inet:127.0.0.1:11332", "inet:[::1]:11332", "unix:/run/rspamd/milter.sock"])
def test_the_notations_of_postfix_are_addresses_of_a_milter(address: str) -> None:
    require_milter("--milter", address)


def test_files_are_written_with_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    written = [
        ConfigFile("public", "a"),
        ConfigFile("secret", "b", secret=True),
        ConfigFile("program", "c", executable=True),
        ConfigFile("below/this", "d"),
    ]
    names = [file.name for file in written]
    before = os.umask(0)
    try:
        for number, umask in enumerate((0o000, 0o077)):
            os.umask(umask)
            directory = tmp_path / f"new{number}"
            for _ in range(2):
                write_files(directory / "of", written, overwrite=True)
                modes = {name: stat.S_IMODE((directory / "of" / name).stat().st_mode) for name in names}
                assert modes == dict(zip(names, (0o644, 0o600, 0o755, 0o644), strict=True))
            for created in (directory, directory / "of", directory / "of" / "below"):
                assert stat.S_IMODE(created.stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    write_files(tmp_path, [ConfigFile("a", "new")], overwrite=False)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@contextmanager
def largest_file(octets: int) -> Iterator[None]:
    """Have writes beyond this size of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failure_names_the_path_and_changes_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, [ConfigFile("a", "former")], overwrite=False)
    files = [ConfigFile("a", "new"), ConfigFile("below/b", "x" * 100_000), ConfigFile("c", "new")]
    for directory in (tmp_path, tmp_path / "missing" / "too"):
        with largest_file(50_000), pytest.raises(OSError, match="File too large") as caught:
            write_files(directory, files, overwrite=True)
        assert caught.value.filename == str(directory / "below" / "b")
        assert [path.name for path in tmp_path.rglob("*")] == ["a"]
        assert (tmp_path / "a").read_text() == "former"


def test_existing_files_stay_unless_they_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    written = [ConfigFile("a", "new"), ConfigFile("b", "new")]
    with pytest.raises(FilesExist, match="has b already"):
        write_files(tmp_path, written, overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "mine"
    write_files(tmp_path, written, overwrite=True)
    assert (tmp_path / "b").read_text() == "new"
