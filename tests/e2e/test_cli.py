"""Every other command of the command line, as a process: what it prints, and its exit codes."""

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
from tests.e2e.support import POSTROOM, VARIABLES, Up, clean_environment, database_url, run, wait_until

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DURATION = "a duration is expected, such as 30d, 12h, 15m, or a number of seconds"


def succeed(*arguments: str, **environment: str) -> str:
    """What a command prints, which must succeed without a word on stderr."""
    done = run(*arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def fail(code: int, *arguments: str, **environment: str) -> str:
    """The one line by which a command fails."""
    done = run(*arguments, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def database(postroom: Up) -> list[str]:
    """The flag of a database that is in use by a running service."""
    return [f"--database-url={database_url(postroom.directory)}"]


def test_version() -> None:
    assert succeed("--version") == f"postroom {__version__}\n"


def test_no_command_shows_help() -> None:
    done = run()
    assert done.returncode == 2
    for command in ("up", "serve", "gateway", "worker", "migrate", "keys", "projects"):
        assert f"\n  {command} " in done.stdout + done.stderr


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "postroomd", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"postroom {__version__}\n"


def test_help_lists_the_settings_of_a_command_alone() -> None:
    shown = succeed("gateway", "--help")
    assert "--http-address HOST:PORT" in shown
    assert "POSTROOM_HTTP_ADDRESS" in shown
    assert "--database-url" not in shown


def test_new_key_works_at_once_in_a_new_organization(postroom: Up, database: list[str]) -> None:
    address = postroom.environment["SCW_API_URL"].removeprefix("http://")
    shown = succeed("keys", "create", *database, f"--http-address={address}")
    lines = [line.removeprefix("export ").split("=", 1) for line in shown.splitlines()]
    environment = dict(lines)
    assert tuple(environment) == VARIABLES
    assert environment["SCW_API_URL"] == postroom.environment["SCW_API_URL"]
    assert re.fullmatch(r"SCW[A-Z0-9]{17}", environment["SCW_ACCESS_KEY"])
    assert all(UUID.fullmatch(environment[name]) for name in VARIABLES[2:])
    assert environment["SCW_DEFAULT_ORGANIZATION_ID"] != postroom.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    assert postroom.get("/mailbox/v1alpha1/domains", environment["SCW_SECRET_KEY"]) == 200


def test_key_can_be_limited_and_shown_as_json(postroom: Up, database: list[str]) -> None:
    own = postroom.environment
    organization, project = own["SCW_DEFAULT_ORGANIZATION_ID"], own["SCW_DEFAULT_PROJECT_ID"]
    flags = ["--read-only", "--expires-in=30d", "--output=json"]
    made = json.loads(succeed("keys", "create", *database, f"--project-id={project}", *flags))
    assert tuple(made) == VARIABLES
    assert made["SCW_DEFAULT_ORGANIZATION_ID"] == organization
    assert made["SCW_DEFAULT_PROJECT_ID"] == project

    shown = succeed("keys", "list", *database, f"--organization-id={organization}", "--output=json")
    assert made["SCW_SECRET_KEY"] not in shown
    (listed,) = (key for key in json.loads(shown) if key["access_key"] == made["SCW_ACCESS_KEY"])
    assert listed["project_id"] == project
    assert listed["read_only"] is True
    assert listed["revoked_at"] is None
    assert listed["expires_at"] > listed["created_at"]
    assert listed["created_at"].endswith("Z")


def test_table_of_a_key_and_of_keys(database: list[str]) -> None:
    shown = succeed("keys", "create", *database, "--output=table")
    rows = dict(line.split() for line in shown.splitlines()[1:])
    assert tuple(rows) == VARIABLES
    (row,) = (
        line for line in succeed("keys", "list", *database).splitlines() if line.startswith(rows["SCW_ACCESS_KEY"])
    )
    assert rows["SCW_DEFAULT_PROJECT_ID"] in row
    assert rows["SCW_SECRET_KEY"] not in row


def test_revoked_key_is_refused_within_the_time_it_may_be_cached(postroom: Up, database: list[str]) -> None:
    made = json.loads(succeed("keys", "create", *database, "--output=json"))
    access_key, secret = made["SCW_ACCESS_KEY"], made["SCW_SECRET_KEY"]
    assert postroom.get("/mailbox/v1alpha1/domains", secret) == 200
    assert succeed("keys", "revoke", *database, access_key) == f"{access_key} is revoked.\n"
    wait_until(lambda: postroom.get("/mailbox/v1alpha1/domains", secret) == 401, 6)


def test_projects(postroom: Up, database: list[str]) -> None:
    organization = postroom.environment["SCW_DEFAULT_ORGANIZATION_ID"]
    of = f"--organization-id={organization}"
    flags = ["--name=Second office", "--mailbox-quota=7", "--output=json"]
    (made,) = json.loads(succeed("projects", "create", *database, of, *flags))
    assert made["organization_id"] == organization
    assert made["mailbox_quota"] == 7
    assert made["mailbox_count"] == 0
    first, second = json.loads(succeed("projects", "list", *database, of, "--output=json"))
    assert first["id"] == postroom.environment["SCW_DEFAULT_PROJECT_ID"]
    assert first["name"] == "default"
    assert second == made
    header, *rows = succeed("projects", "list", *database, of).splitlines()
    assert header.split() == ["id", "organization_id", "name", "mailbox_quota", "mailbox_count", "created_at"]
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["up", "--domain-validation=maybe"], "--domain-validation: Input should be 'dns' or 'trust'"),
        (["serve", "--grpc-address=nowhere"], "--grpc-address: HOST:PORT is expected, such as 127.0.0.1:8080"),
        (["keys", "create", "--expires-in=soon"], f"--expires-in: {DURATION}"),
        (["keys", "create", "--expires-in=0"], "--expires-in: more than 0 and at most 36500d is expected"),
        (["keys", "revoke", "SCW1"], "ACCESS_KEY: SCW and 17 characters of A-Z0-9 are expected"),
        (["projects", "create", "--organization-id=x", "--name="], "--name: 1 to 255 characters"),
        (["projects", "create", "--name=x"], "Missing option '--organization-id'"),
        (["gateway", "--grpc-address=127.0.0.1:0"], "--grpc-address: the gateway needs to know the service's port"),
        (["gateway", "--database-url=x"], "No such option: --database-url"),
        (["sevre"], "No such command 'sevre'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_argument_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2  # in this process: nothing is begun
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"postroom: {line}")
    assert printed.err.count("\n") == 1


def test_bad_flag_is_one_line_that_names_it() -> None:
    line = fail(2, "up", "--domain-validation=maybe")
    assert line == "postroom: --domain-validation: Input should be 'dns' or 'trust'"


def test_bad_variable_is_one_line_that_names_it() -> None:
    line = fail(2, "serve", POSTROOM_DOMAIN_VALIDATION="maybe")
    assert line == "postroom: POSTROOM_DOMAIN_VALIDATION: Input should be 'dns' or 'trust'"


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_bad_database_url_is_not_repeated(how: str) -> None:
    url = "mysql://user:hunter2@host/name"
    if how == "flag":
        line = fail(2, "migrate", f"--database-url={url}")
        assert line.startswith("postroom: --database-url: sqlite+aiosqlite:///PATH")
    else:
        line = fail(2, "migrate", POSTROOM_DATABASE_URL=url)
        assert line.startswith("postroom: POSTROOM_DATABASE_URL: sqlite+aiosqlite:///PATH")
    assert "hunter2" not in line


@pytest.mark.parametrize("command", [["keys", "list"], ["serve"]], ids=" ".join)
def test_missing_database_is_one_line_and_is_not_made(command: list[str], tmp_path: Path) -> None:
    line = fail(1, *command, f"--database-url=sqlite+aiosqlite:///{tmp_path}/none.db")
    assert line == f"postroom: {tmp_path}/none.db: there is no database: run `postroom migrate` first"
    assert list(tmp_path.iterdir()) == []


def test_migrate_makes_a_database_and_may_run_again(tmp_path: Path) -> None:
    flag = f"--database-url={database_url(tmp_path)}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postroom.db").touch()
    assert fail(1, "keys", "list", flag) == "postroom: the database is empty: run `postroom migrate` first"
    for _ in range(2):
        assert run("migrate", flag).stdout == "The database is up to date.\n"
    assert succeed("keys", "list", flag, "--output=json") == "[]\n"


def test_database_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert fail(1, "migrate", f"--database-url={database_url(tmp_path)}") == f"postroom: {tmp_path}/data: File exists"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["keys", "revoke", "SCW00000000000000000"], "api_key SCW00000000000000000 not found"),
        (["keys", "create", "--organization-id=0"], "organization 0 not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_id_is_one_line_and_exit_code_1(database: list[str], arguments: list[str], line: str) -> None:
    assert fail(1, *arguments, *database) == f"postroom: {line}"


@pytest.fixture
def gateway(postroom: Up, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A gateway run by itself, in front of the service that runs."""
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


def test_gateway_alone_says_when_it_is_ready_and_ends_on_a_signal(gateway: subprocess.Popen[str]) -> None:
    assert gateway.stderr
    ready = json.loads(gateway.stderr.readline())
    assert (ready["event"], ready["process"]) == ("ready", "gateway")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", ready["address"])
    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait(10) == 0
