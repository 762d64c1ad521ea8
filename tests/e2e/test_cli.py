"""The other commands, as processes: output and exit codes."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroomd import __version__
from postroomd.cli import app as cli
from tests.e2e.conftest import Starter
from tests.e2e.support import POSTROOM, STOP_SECONDS, VARIABLES, Up, clean_environment, database_url, run, run_process
from tests.support.waiting import block_until

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DURATION = "expected a duration, such as 30d, 12h, 15m, or a number of seconds"


def succeed(*arguments: str, **environment: str) -> str:
    """Run a command, which must succeed with an empty stderr; returns its stdout."""
    completed = run(*arguments, **environment)
    assert (completed.returncode, completed.stderr) == (0, "")
    return completed.stdout


def fail(code: int, *arguments: str, **environment: str) -> str:
    """Run a command, which must fail with this exit code and one line; returns the line."""
    completed = run(*arguments, **environment)
    assert (completed.returncode, completed.stdout) == (code, "")
    (line,) = completed.stderr.splitlines()
    return line


@pytest.fixture
def database(postroom: Up) -> list[str]:
    """The flag with the database of a running service."""
    return [f"--database-url={database_url(postroom.directory)}"]


def test_version_is_printed() -> None:
    assert succeed("--version") == f"postroom {__version__}\n"


def test_without_a_command_help_is_printed() -> None:
    completed = run_process()
    assert completed.returncode == 2
    for command in ("up", "serve", "gateway", "worker", "migrate", "keys", "projects"):
        assert f"\n  {command} " in completed.stdout + completed.stderr


def test_help_lists_only_the_settings_of_the_command() -> None:
    printed = succeed("gateway", "--help")
    assert "--http-address HOST:PORT" in printed
    assert "POSTROOM_HTTP_ADDRESS" in printed
    assert "--database-url" not in printed


def test_a_new_key_works_at_once_in_a_new_organization(postroom: Up, database: list[str]) -> None:
    address = postroom.environment["SCW_API_URL"].removeprefix("http://")
    printed = succeed("keys", "create", "--new-organization", *database, f"--http-address={address}")
    lines = [line.removeprefix("export ").split("=", 1) for line in printed.splitlines()]
    environment = dict(lines)
    assert tuple(environment) == VARIABLES
    assert environment["SCW_API_URL"] == postroom.environment["SCW_API_URL"]
    assert re.fullmatch(r"SCW[A-Z0-9]{17}", environment["SCW_ACCESS_KEY"])
    assert all(UUID.fullmatch(environment[name]) for name in VARIABLES[2:])
    assert environment["SCW_DEFAULT_ORGANIZATION_ID"] != postroom.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    assert postroom.get("/mailbox/v1alpha1/domains", environment["SCW_SECRET_KEY"]) == 200


def test_a_key_can_be_limited_and_printed_as_json(postroom: Up, database: list[str]) -> None:
    environment = postroom.environment
    organization = environment["SCW_DEFAULT_ORGANIZATION_ID"]
    project = environment["SCW_DEFAULT_PROJECT_ID"]
    flags = ["--read-only", "--expires-in=30d", "--output=json"]
    created = json.loads(succeed("keys", "create", *database, f"--project-id={project}", *flags))
    assert tuple(created) == VARIABLES
    assert created["SCW_DEFAULT_ORGANIZATION_ID"] == organization
    assert created["SCW_DEFAULT_PROJECT_ID"] == project

    printed = succeed("keys", "list", *database, f"--organization-id={organization}", "--output=json")
    assert created["SCW_SECRET_KEY"] not in printed
    (listed,) = (key for key in json.loads(printed) if key["access_key"] == created["SCW_ACCESS_KEY"])
    assert listed["project_id"] == project
    assert listed["read_only"] is True
    assert listed["revoked_at"] is None
    assert listed["expires_at"] > listed["created_at"]
    assert listed["created_at"].endswith("Z")


def test_keys_are_printed_as_tables(database: list[str]) -> None:
    printed = succeed("keys", "create", "--new-organization", *database, "--output=table")
    rows = dict(line.split() for line in printed.splitlines()[1:])
    assert tuple(rows) == VARIABLES
    (row,) = (
        line for line in succeed("keys", "list", *database).splitlines() if line.startswith(rows["SCW_ACCESS_KEY"])
    )
    assert rows["SCW_DEFAULT_PROJECT_ID"] in row
    assert rows["SCW_SECRET_KEY"] not in row


def test_a_revoked_key_is_rejected_once_it_is_no_longer_cached(postroom: Up, database: list[str]) -> None:
    created = json.loads(succeed("keys", "create", "--new-organization", *database, "--output=json"))
    access_key, secret = created["SCW_ACCESS_KEY"], created["SCW_SECRET_KEY"]
    assert postroom.get("/mailbox/v1alpha1/domains", secret) == 200
    assert succeed("keys", "revoke", "--yes", *database, access_key) == f"{access_key} is revoked.\n"
    block_until(lambda: postroom.get("/mailbox/v1alpha1/domains", secret) == 401)


def test_a_project_is_created_and_listed(postroom: Up, database: list[str]) -> None:
    organization = postroom.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    filter_flag = f"--organization-id={organization}"
    flags = ["--name=Second office", "--mailbox-quota=7", "--output=json"]
    (created,) = json.loads(succeed("projects", "create", *database, filter_flag, *flags))
    assert created["organization_id"] == organization
    assert created["mailbox_quota"] == 7
    assert created["mailbox_count"] == 0
    first, second = json.loads(succeed("projects", "list", *database, filter_flag, "--output=json"))
    assert first["id"] == postroom.environment["SCW_DEFAULT_PROJECT_ID"]
    assert first["name"] == "default"
    assert second == created
    header, *rows = succeed("projects", "list", *database, filter_flag).splitlines()
    assert header.split() == ["id", "organization_id", "name", "mailbox_quota", "mailbox_count", "created_at"]
    assert len(rows) == 2


@pytest.mark.parametrize("module", ["postroom", "postroomd"])
def test_a_module_is_the_command(module: str) -> None:
    completed = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert completed.stdout == f"postroom {__version__}\n"


def test_commands_are_completed() -> None:
    completed = run_process(_POSTROOM_COMPLETE="complete_bash", COMP_WORDS="postroom keys r", COMP_CWORD="2")
    assert completed.stdout.split() == ["rotate", "revoke"]
    script = run_process(_POSTROOM_COMPLETE="source_bash").stdout
    assert "complete -o default -F _postroom_completion postroom" in script


def test_a_key_is_rotated(postroom: Up, database: list[str]) -> None:
    created = json.loads(
        succeed("keys", "create", "--new-organization", "--name=ci, read", "--read-only", *database, "--output=json")
    )
    former = created["SCW_ACCESS_KEY"]
    rotated = json.loads(succeed("keys", "rotate", former, "--grace=0", *database, "--output=json"))
    assert rotated["SCW_DEFAULT_ORGANIZATION_ID"] == created["SCW_DEFAULT_ORGANIZATION_ID"]
    organization = f"--organization-id={created['SCW_DEFAULT_ORGANIZATION_ID']}"
    old, new = json.loads(succeed("keys", "list", organization, *database, "--output=json"))
    assert (old["access_key"], new["access_key"]) == (former, rotated["SCW_ACCESS_KEY"])
    assert old["expires_at"] == new["created_at"]
    assert (new["name"], new["read_only"], new["expires_at"]) == ("ci, read", True, None)
    header, *rows = succeed("keys", "list", organization, *database, "--output=csv").splitlines()
    assert header.startswith("access_key,name,organization_id,")
    assert rows[1].startswith(f'{rotated["SCW_ACCESS_KEY"]},"ci, read",')
    line = fail(1, "keys", "rotate", former, *database)
    assert line.startswith(f"postroom: ACCESS_KEY: {former} is revoked or expired")


def test_an_organization_has_a_name_and_a_quota(database: list[str]) -> None:
    (created,) = json.loads(succeed("organizations", "create", "--name=Büro", *database, "--output=json"))
    listed = json.loads(succeed("organizations", "list", *database, "--output=json"))
    (row,) = (each for each in listed if each["id"] == created["id"])
    assert (row["name"], row["project_count"], row["mailbox_count"]) == ("Büro", 1, 0)
    (project,) = json.loads(succeed("projects", "set-quota", created["project_id"], "12", *database, "--output=json"))
    assert (project["mailbox_quota"], project["organization_id"]) == (12, created["id"])
    line = fail(1, "projects", "set-quota", "0", "12", *database)
    assert line == "postroom: project 0 not found: `postroom projects list` prints those that exist"


def test_a_table_is_one_whole_line_per_row_on_a_narrow_terminal(database: list[str]) -> None:
    succeed("keys", "create", "--new-organization", f"--name={'long ' * 20}", *database)
    wide = succeed("keys", "list", *database)
    assert succeed("keys", "list", *database, COLUMNS="80") == wide
    keys = json.loads(succeed("keys", "list", *database, "--output=json"))
    header, *rows = wide.splitlines()
    assert header.split()[0] == "access_key"
    for row, key in zip(rows, keys, strict=True):
        assert key["access_key"] in row
        assert key["organization_id"] in row
        assert key["default_project_id"] in row


def test_revoking_asks_for_confirmation_where_it_can(database: list[str]) -> None:
    line = fail(2, "keys", "revoke", "SCW00000000000000000", *database)
    assert line.endswith("There is no terminal to ask on: confirm with --yes")


def test_a_second_start_says_how_to_get_a_key(start_postroom: Starter) -> None:
    start_postroom().stop()
    assert "`postroom keys create --organization-id ID`" in start_postroom().output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["keys", "create"], "--organization-id, --project-id: set one"),
        (["keys", "create", "--new-organization", "--project-id=x"], "--organization-id, --project-id: set one"),
        (["keys", "rotate", "SCW1"], "ACCESS_KEY: expected SCW and 17 characters of A-Z and 0-9"),
        (["keys", "rotate", "SCW00000000000000000", "--grace=soon"], f"--grace: {DURATION}"),
        (["projects", "set-quota", "x", "-1"], "No such option: -1"),
        (["projects", "set-quota", "x", "many"], "Invalid value for 'MAILBOXES'"),
        (["up", "--domain-validation=maybe"], "--domain-validation: Input should be 'dns' or 'trust'"),
        (["serve", "--grpc-address=nowhere"], "--grpc-address: expected HOST:PORT, such as 127.0.0.1:8080"),
        (["keys", "create", "--new-organization", "--expires-in=soon"], f"--expires-in: {DURATION}"),
        (
            ["keys", "create", "--project-id=x", "--expires-in=0"],
            "--expires-in: expected more than 0 and at most 36500d",
        ),
        (["keys", "revoke", "SCW1"], "ACCESS_KEY: expected SCW and 17 characters of A-Z and 0-9"),
        (["projects", "create", "--organization-id=x", "--name="], "--name: expected 1 to 255 characters"),
        (["projects", "create", "--name=x"], "Missing option '--organization-id'"),
        (["gateway", "--grpc-address=127.0.0.1:0"], "--grpc-address: port 0 does not identify the service"),
        (["gateway", "--database-url=x"], "No such option: --database-url"),
        (["sevre"], "No such command 'sevre'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_invalid_argument_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2  # in this process: no other one is started
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"postroom: {line}")
    assert printed.err.count("\n") == 1


def test_an_invalid_flag_is_named() -> None:
    line = fail(2, "up", "--domain-validation=maybe")
    assert line == "postroom: --domain-validation: Input should be 'dns' or 'trust'"


def test_an_invalid_variable_is_named() -> None:
    line = fail(2, "serve", POSTROOM_DOMAIN_VALIDATION="maybe")
    assert line == "postroom: POSTROOM_DOMAIN_VALIDATION: Input should be 'dns' or 'trust'"


@pytest.mark.parametrize("source", ["flag", "variable"])
def test_an_invalid_database_url_is_not_repeated(source: str) -> None:
    url = "mysql://user:hunter2@host/name"
    if source == "flag":
        line = fail(2, "migrate", f"--database-url={url}")
        assert line.startswith("postroom: --database-url: expected sqlite+aiosqlite:///PATH")
    else:
        line = fail(2, "migrate", POSTROOM_DATABASE_URL=url)
        assert line.startswith("postroom: POSTROOM_DATABASE_URL: expected sqlite+aiosqlite:///PATH")
    assert "hunter2" not in line


@pytest.mark.parametrize("command", [["keys", "list"], ["serve"]], ids=" ".join)
def test_a_missing_database_is_one_line_and_not_created(command: list[str], tmp_path: Path) -> None:
    line = fail(1, *command, f"--database-url=sqlite+aiosqlite:///{tmp_path}/none.db")
    message = f"{tmp_path}/none.db: there is no database: correct --database-url, or run `postroom migrate` first"
    assert line == f"postroom: {message}"
    assert list(tmp_path.iterdir()) == []


def test_migrate_creates_a_database_and_can_run_again(tmp_path: Path) -> None:
    flag = f"--database-url={database_url(tmp_path)}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postroom.db").touch()
    line = f"postroom: SQLite {tmp_path}/data/postroom.db: it is empty: run `postroom migrate` first"
    assert fail(1, "keys", "list", flag) == line
    for _ in range(2):
        assert run("migrate", flag).stdout == "The database is up to date.\n"
    assert succeed("keys", "list", flag, "--output=json") == "[]\n"


def test_a_database_that_can_not_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert fail(1, "migrate", f"--database-url={database_url(tmp_path)}") == f"postroom: {tmp_path}/data: File exists"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["keys", "revoke", "--yes", "SCW00000000000000000"], "API key SCW00000000000000000 not found: {keys}"),
        (["keys", "create", "--organization-id=0"], "organization 0 not found: {organizations}"),
        (["keys", "list", "--organization-id=0"], "organization 0 not found: {organizations}"),
        (["projects", "list", "--organization-id=0"], "organization 0 not found: {organizations}"),
        (["projects", "set-quota", "0", "5"], "project 0 not found: {projects}"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unknown_id_is_one_line_and_exit_code_1(database: list[str], arguments: list[str], line: str) -> None:
    hints = {name: f"`postroom {name} list` prints those that exist" for name in ("keys", "organizations", "projects")}
    assert fail(1, *arguments, *database) == f"postroom: {line.format(**hints)}"


@pytest.fixture
def gateway(postroom: Up, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A separate gateway of the running service."""
    process = subprocess.Popen(
        [POSTROOM, "gateway", f"--grpc-address={postroom.grpc_address}", "--http-address=127.0.0.1:0"],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_separate_gateway_logs_ready_and_stops_on_a_signal(gateway: subprocess.Popen[str]) -> None:
    assert gateway.stderr
    ready = json.loads(gateway.stderr.readline())
    assert (ready["event"], ready["process"]) == ("ready", "gateway")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", ready["address"])
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait(STOP_SECONDS) == 0
