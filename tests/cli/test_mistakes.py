"""Commands with arguments that are wrong: what they say, and their exit codes."""

from pathlib import Path

import pytest

from tests.cli.running import PASSWORD, Commands
from tests.e2e.support import run

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
