"""Commands with arguments that are wrong: what they say, and their exit codes."""

import errno
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import PASSWORD, Commands
from tests.e2e.support import POSTROOM, clean_environment, run

MAIL = ("--database-url=sqlite+aiosqlite:////var/lib/postroom.db", "--hostname=mail.example.org")


@pytest.fixture(scope="module")
def read_only(postroom: Commands) -> dict[str, str]:
    """The variables of a key that may change nothing."""
    organization = postroom.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    key = postroom.rows("keys", "create", "--organization-id", organization, "--read-only")
    return {"SCW_SECRET_KEY": key["SCW_SECRET_KEY"]}


def test_a_key_without_the_permission_has_one_exit_code_everywhere(
    postroom: Commands, read_only: dict[str, str], tmp_path: Path
) -> None:
    postroom.ready_domain("denied.example")
    assert postroom.failure(5, "domains", "create", "x.example", **read_only).startswith("SCW_SECRET_KEY: ")
    wanted = tmp_path / "wanted.yaml"
    wanted.write_text("domains: [{name: new.example, mailboxes: [{local_part: ann}]}, {name: denied.example}]")
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    wanted.write_text(
        "domains: [{name: new.example, mailboxes: [{local_part: ann, password_file: password}]},"
        " {name: denied.example, mailboxes: [{local_part: bob, password_file: password}]}]"
    )
    applied = postroom("apply", wanted, **read_only)
    assert applied.code == 5
    assert applied.err.endswith("3 of 3 changes failed: nothing was changed\n")
    rows = tmp_path / "rows.csv"
    rows.write_text(f"domain,local_part,password\ndenied.example,ann,{PASSWORD}\n")
    imported = postroom("mailboxes", "import", rows, **read_only)
    assert imported.code == 5
    assert "use a key with the permission" in imported.err


def test_an_export_that_fails_leaves_the_former_file(
    postroom: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.csv"
    file.write_text("the former export")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        line = postroom.failure(2, "mailboxes", "export", "--file", file)
    assert line == f"--file: can't write {file}: No space left on device"
    assert file.read_text() == "the former export"
    assert [each.name for each in tmp_path.iterdir()] == ["export.csv"]
    assert postroom("mailboxes", "export", "--file", file).code == 0
    assert file.read_text().startswith("domain,local_part,")
    assert postroom("mailboxes", "export", "--file=/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_without_standard_output_nothing_is_done(postroom: Commands) -> None:
    database = f"--database-url={postroom.environment['POSTROOM_DATABASE_URL']}"
    before = postroom.rows("keys", "list")
    completed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" >&-', POSTROOM, "keys", "create", "--new-organization", database],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert completed.returncode == 1
    assert completed.stderr.splitlines() == [
        "postroom: standard output is closed: redirect it to /dev/null if it is not wanted"
    ]
    assert postroom.rows("keys", "list") == before


def test_a_new_key_whose_secret_is_not_printed_is_named(postroom: Commands) -> None:
    database = postroom.environment["POSTROOM_DATABASE_URL"]
    for command, revocation in (
        (("keys", "create", "--new-organization"), "run `postroom keys revoke SCW"),
        (("admin-keys", "create", "--name=lost"), "run `postroom admin-keys revoke lost`"),
    ):
        with Path("/dev/full").open("w") as full:
            completed = subprocess.run(
                [POSTROOM, *command, f"--database-url={database}"],
                env=clean_environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        (line,) = completed.stderr.splitlines()
        assert completed.returncode == 1
        assert "could not be printed, and is not stored: No space left on device" in line
        assert revocation in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["dovecot", "--mail-user=a b"], "postroom: --mail-user: expected the name of a system user"),
        (["dovecot", "--mail-group=a\nb"], "postroom: --mail-group: expected the name of a system user"),
        (["dovecot", "--doveadm-port=70000", "--doveadm-key-file=x"], "postroom: Invalid value for '--doveadm-port'"),
        (["postfix", "--forward-port=70000"], "postroom: Invalid value for '--forward-port'"),
        (["postfix", "--srs-forward-port=0"], "postroom: Invalid value for '--srs-forward-port'"),
        (["postfix", "--srs-reverse-port=-1"], "postroom: Invalid value for '--srs-reverse-port'"),
        (["postfix", "--forward-port=10001"], "postroom: --srs-forward-port: 10001 is the port of --forward-port too"),
        (["postfix", "--milter=inet:127.0.0.1:70000"], "postroom: --milter: expected inet:HOST:PORT"),
        (
            ["dovecot", "--hostname=127.0.0.1"],
            "postroom: --hostname: 127.0.0.1 is an IP address: pass the name to which MX",
        ),
        (["postfix", "--hostname=::1"], "postroom: --hostname: expected a host name"),
        (["rspamd", "--port=65536", "--dkim-directory=/d"], "postroom: Invalid value for '--port'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mail_servers_get_no_invalid_port_or_name(arguments: list[str], line: str, tmp_path: Path) -> None:
    server, *options = arguments
    completed = run("mail-config", server, f"--output={tmp_path / 'out'}", *MAIL, *options)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert completed.stderr.startswith(line)
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_cannot_be_written_names_the_path_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    completed = subprocess.run(
        ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", POSTROOM, "mail-config", "postfix", f"--output={output}", *MAIL],
        env=clean_environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = completed.stderr.splitlines()
    assert completed.returncode == 1
    assert line.startswith(f"postroom: --output: can't write {output}/main.cf: File too large: ")
    assert not output.exists()
