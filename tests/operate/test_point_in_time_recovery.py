"""Point-in-time recovery of PostgreSQL, as docs/backup.md describes it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.support import Up, start, terminate
from tests.support.waiting import block_until
from tools.postgres import PostgresServer, server_directory

DATABASE = "postroom"


@contextmanager
def postroom(directory: Path, server: PostgresServer) -> Iterator[Up]:
    """`postroom up` on a server, stopped at the end."""
    directory.mkdir()
    up = start(directory, f"--database-url={server.url(DATABASE)}")
    try:
        yield up
    finally:
        terminate(up)


def test_a_cluster_is_recovered_to_the_moment_before_a_mistake(tmp_path: Path) -> None:
    with server_directory() as directory:
        archive = directory / "archive"
        archive.mkdir()
        archive.chmod(0o777)  # the server runs as another user
        archiving = {"archive_mode": "on", "archive_command": f"test ! -f {archive}/%f && cp %p {archive}/%f"}
        server = PostgresServer(directory / "server", settings=archiving)
        server.initialize()
        server.start()
        try:
            recovered = server.new_base_backup(directory / "recovered")
            server.sql(f"CREATE DATABASE {DATABASE}")
            with postroom(tmp_path / "before", server) as up:
                secret = up.environment["SCW_SECRET_KEY"]
                for name in ("kept.example", "deleted.example"):
                    domain = up.call("POST", "/domains", {"name": name})
                moment = server.sql("SELECT clock_timestamp()").strip()
                time.sleep(0.01)  # PostgreSQL applies what was committed at the moment itself
                up.call("DELETE", f"/domains/{domain['id']}")
                up.call("POST", "/domains", {"name": "late.example"})
        finally:
            server.stop()  # archives the end of the log

        recovered.settings["restore_command"] = f"cp {archive}/%f %p"
        recovered.settings["recovery_target_time"] = moment
        recovered.settings["recovery_target_action"] = "promote"
        (recovered.data / "recovery.signal").touch()
        recovered.start()
        try:
            block_until(lambda: recovered.sql("SELECT pg_is_in_recovery()").strip() == "f")  # it reads only until then
            with postroom(tmp_path / "after", recovered) as up:
                domains = up.call("GET", "/domains", secret=secret)["domains"]
                assert {domain["name"] for domain in domains} == {"kept.example", "deleted.example"}
                up.call("POST", "/domains", {"name": "new.example"}, secret)
        finally:
            recovered.stop()
