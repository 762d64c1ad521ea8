"""The encryption of DKIM private keys, and its renewal beside a running service and worker."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import CHEAP, Commands, commands_of
from tests.e2e.support import run_process, start, terminate
from tests.support.waiting import block_until


def write_keys(path: Path, *octets: int) -> None:
    """Replace the file of keys, the present one first."""
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text("".join(base64.b64encode(bytes([octet]) * 32).decode() + "\n" for octet in octets))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("postroom")


@pytest.fixture(scope="module")
def keys(directory: Path) -> Path:
    return directory / "secret-keys"


@pytest.fixture(scope="module")
def postroom(directory: Path, keys: Path) -> Iterator[Commands]:
    write_keys(keys, 1)
    flags = (f"--secret-key-file={keys}", "--dkim-bits=1024", f"--dkim-directory={directory / 'dkim'}")
    up = start(directory, "--admin-address=127.0.0.1:0", "--dkim-interval-seconds=0.1", *CHEAP, *flags)
    try:
        yield commands_of(up)
    finally:
        terminate(up)


def stored(directory: Path) -> list[tuple[str | None, bool]]:
    """The id of the key that encrypts each domain's private key, and whether the text is a private key."""
    (path,) = directory.glob("**/postroom.db")
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT dkim_key_id, dkim_private_key FROM domains").fetchall()
    connection.close()
    return [(key_id, "PRIVATE KEY" in text) for key_id, text in rows]


def test_keys_are_renewed_while_everything_runs(postroom: Commands, directory: Path, keys: Path) -> None:
    postroom.ready_domain("example.org")
    ((first, plain),) = stored(directory)
    assert first is not None
    assert not plain
    exported = directory / "dkim" / "example.org.postroom.key"
    block_until(exported.exists)
    before = exported.read_text()
    assert "PRIVATE KEY" in before

    write_keys(keys, 2, 1)
    option = f"--secret-key-file={keys}"
    done = postroom.rows("secrets", "rotate", option)
    assert (done["encrypted"], done["reencrypted"], done["private_keys"]) == (0, 1, 1)
    assert stored(directory) == [(done["key"], False)]
    assert done["key"] != first
    assert postroom.rows("secrets", "rotate", option)["reencrypted"] == 0
    next_step = postroom("secrets", "rotate", option).lines[-1]
    assert next_step.startswith(f"Every service and worker now needs key {done['key']}")

    write_keys(keys, 2)
    exported.unlink()
    block_until(exported.exists)  # by the worker, which has read the file again
    assert exported.read_text() == before
    postroom.ready_domain("example.com")
    assert stored(directory) == [(done["key"], False)] * 2
    (event,) = postroom("audit", "--resource-id", done["key"], "--output=json").lines
    assert json.loads(event)["action"] == "secrets rotate"


def test_what_lacks_the_keys_says_so_in_one_line(postroom: Commands, keys: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.db", tmp_path / "other"
    assert postroom("backup", copy).code == 0  # which has the keys as they are stored
    write_keys(other, 9)
    assert postroom.failure(2, "secrets", "rotate").startswith("--secret-key-file: missing")
    assert "does not have key" in postroom.failure(2, "secrets", "rotate", f"--secret-key-file={other}")
    for flags in ([], [f"--secret-key-file={other}"]):
        completed = run_process("worker", *flags, f"--database-url=sqlite+aiosqlite:///{copy}")
        assert completed.returncode == 2
        assert "--secret-key-file" in completed.stderr.splitlines()[-1]
        assert "Traceback" not in completed.stderr
    for flag, condition in (
        ("", "error"),
        (f"--secret-key-file={other}", "error"),
        (f"--secret-key-file={keys}", "ok"),
    ):
        result = postroom("doctor", "--output=json", *filter(None, [flag]))
        assert f'"condition": "{condition}"' in result.out[result.out.index('"secret keys"') :][:100]
    keys.chmod(0o640)
    assert "is accessible to others" in postroom.failure(2, "secrets", "rotate", f"--secret-key-file={keys}")
    keys.chmod(0o600)
    assert "can't read" in postroom.failure(2, "secrets", "rotate", f"--secret-key-file={tmp_path / 'none'}")
    other.write_text("no key\n")
    assert "line 1 of" in postroom.failure(2, "secrets", "rotate", f"--secret-key-file={other}")
