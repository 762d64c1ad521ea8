"""Point-in-time recovery of PostgreSQL, as docs/backup.md describes it."""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.support import Up, start, terminate
from tools.postgres import PostgresServer, server_directory

API = "/mailbox/v1alpha1"
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


def call(up: Up, secret: str, method: str, path: str, body: object = None) -> Any:
    """Return the response of a REST call. Raises URLError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-Auth-Token": secret, "Content-Type": "application/json"}
    url = up.environment["SCW_API_URL"] + API + path
    outgoing = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - loopback
    with urllib.request.urlopen(outgoing, timeout=30) as response:  # noqa: S310
        return json.load(response)


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
                    domain = call(up, secret, "POST", "/domains", {"name": name})
                moment = server.sql("SELECT clock_timestamp()").strip()
                time.sleep(0.01)  # PostgreSQL applies what was committed at the moment itself
                call(up, secret, "DELETE", f"/domains/{domain['id']}")
                call(up, secret, "POST", "/domains", {"name": "late.example"})
        finally:
            server.stop()  # archives the end of the log

        recovered.settings["restore_command"] = f"cp {archive}/%f %p"
        recovered.settings["recovery_target_time"] = moment
        recovered.settings["recovery_target_action"] = "promote"
        (recovered.data / "recovery.signal").touch()
        recovered.start()
        try:
            with postroom(tmp_path / "after", recovered) as up:
                domains = call(up, secret, "GET", "/domains")["domains"]
                assert {domain["name"] for domain in domains} == {"kept.example", "deleted.example"}
                call(up, secret, "POST", "/domains", {"name": "new.example"})
        finally:
            recovered.stop()
