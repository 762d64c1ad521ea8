"""`postroom backup` and `postroom restore` under write load, as an operator runs them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.support import Up, child_pids, database_url, run
from tests.support.databases import NewDatabase
from tests.support.waiting import block_until

CHEAP_HASHES = {
    "POSTROOM_ARGON2_MEMORY_KIB": "8",
    "POSTROOM_ARGON2_TIME_COST": "1",
    "POSTROOM_ARGON2_PARALLELISM": "1",
}
WRITERS = 4


@contextmanager
def writing(up: Up) -> Iterator[set[str]]:
    """Create mailboxes in several threads during the block. Yields the acknowledged addresses."""
    domain_id = up.call("POST", "/domains", {"name": "example.org"})["id"]
    acknowledged: set[str] = set()
    stopping = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            mailbox = {"local_part": f"m{writer}.{number}", "password": "correct horse battery"}
            up.call("POST", "/batch-create-mailboxes", {"domain_id": domain_id, "mailboxes": [mailbox]})
            acknowledged.add(f"m{writer}.{number}@example.org")

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def mailboxes(up: Up, secrets: dict[str, str]) -> set[str]:
    """Return the addresses of all mailboxes."""
    found: set[str] = set()
    page = 1
    while True:
        response = up.call("GET", f"/mailboxes?page={page}&page_size=100", secret=secrets["SCW_SECRET_KEY"])
        listed = [mailbox["email"] for mailbox in response["mailboxes"]]
        if not listed:
            return found
        found.update(listed)
        page += 1


def test_a_backup_under_load_has_every_write_acknowledged_before_it(start_postroom: Starter, tmp_path: Path) -> None:
    up = start_postroom(**CHEAP_HASHES)
    secrets = up.environment
    url = f"--database-url={database_url(tmp_path)}"
    file = str(tmp_path / "backup.db")
    with writing(up) as acknowledged:
        block_until(lambda: len(acknowledged) >= 30)
        before = set(acknowledged)
        made = run("backup", file, url)
        after = len(acknowledged)
        block_until(lambda: len(acknowledged) > after)  # writes go on
        pid = child_pids(up.process.pid)["serve"]
        refused = run("restore", file, url)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"{file}: ")
    assert "SHA-256" in made.stdout
    database = tmp_path / "data" / "postroom.db"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"postroom: {database}: process {pid} is the service of this database: stop it first\n"
    assert up.stop() == 0

    database.write_bytes(b"lost")
    restored = run("restore", file, url)
    assert (restored.returncode, restored.stderr) == (0, "")
    first, second = restored.stdout.splitlines()
    assert first.startswith(f"{database} is restored: ")
    assert second.startswith(f"The replaced database is {database}.before-restore-")
    found = mailboxes(start_postroom(**CHEAP_HASHES), secrets)
    assert before <= found <= acknowledged


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_on_postgresql_both_commands_explain_what_to_use(
    command: str, new_postgres_database: NewDatabase, tmp_path: Path
) -> None:
    refused = run(command, str(tmp_path / "file"), POSTROOM_DATABASE_URL=new_postgres_database())
    assert refused.returncode == 1
    assert refused.stderr == (
        f"postroom: postroom {command} is for SQLite: for PostgreSQL use pg_dump and pg_restore, or point-in-time"
        " recovery, as docs/backup.md describes\n"
    )


def test_a_missing_database_and_a_missing_backup_are_named(tmp_path: Path) -> None:
    url = f"--database-url=sqlite+aiosqlite:///{tmp_path}/none.db"
    line = f"{tmp_path}/none.db: there is no database: correct --database-url, or run `postroom migrate` first"
    assert run("backup", str(tmp_path / "b.db"), url).stderr == f"postroom: {line}\n"
    assert run("restore", str(tmp_path / "b.db"), url).stderr == f"postroom: {tmp_path}/b.db: there is no such file\n"
    assert not (tmp_path / "none.db").exists()
