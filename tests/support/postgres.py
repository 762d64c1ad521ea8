"""A PostgreSQL server for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from tools.postgres import PostgresServer, server_directory

# Durability is off: no test depends on surviving a machine crash, and the semantics visible to clients are the same.
# No test needs vacuuming. Hashing a password in many iterations takes a third of the time to connect.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "scram_iterations": "1",
}


@contextmanager
def running_server(*, settings: dict[str, str]) -> Iterator[PostgresServer]:
    """A new server, stopped and removed at the end."""
    with server_directory() as directory:
        server = PostgresServer(directory / "server", settings=settings)
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()
