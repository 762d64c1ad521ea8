"""Seeded databases, cached on disk until the schema or the seed changes.

A row that writes gets a copy. PostgreSQL is a server started for the benchmarks, with durability on.
"""

import asyncio
import hashlib
import os
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count as counter
from pathlib import Path

from bench.engine import Engine
from bench.seed import START, seed
from postroomd.settings import SQLITE_PREFIX
from postroomd.storage import migrations
from tools.postgres import PostgresServer

CACHE = Path(__file__).parents[1] / ".cache" / "bench"
POSTGRESQL = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}

_SEED = (Path(__file__).with_name("seed.py"), Path(__file__).with_name("bulk.py"))
_MIGRATIONS = sorted((Path(migrations.__file__).parent / "versions").glob("*.py"))


class Databases:
    """The seeded databases of one benchmark run. The caller calls `close` at the end."""

    def __init__(self, cache: Path = CACHE) -> None:
        self._directory = cache / _fingerprint()
        self._server: PostgresServer | None = None
        self._copies: list[Path] = []
        self._numbers = counter(1)
        for outdated in set(cache.glob("*")) - {self._directory}:
            shutil.rmtree(outdated)
        for path in (cache, self._directory):
            path.mkdir(parents=True, exist_ok=True)

    async def seeded(self, engine: Engine, size: int) -> str:
        """Return the URL of the shared database with `size` mailboxes, which callers must not write to."""
        if engine is Engine.SQLITE:
            return SQLITE_PREFIX + str(await self._seeded_file(size))
        server = await self._running_server()
        name = f"seeded_{size}"
        if not await asyncio.to_thread(_has_database, server, name):
            partial = f"partial_{size}"
            await asyncio.to_thread(server.sql, f"DROP DATABASE IF EXISTS {partial}")
            await asyncio.to_thread(server.sql, f"CREATE DATABASE {partial}")
            await create_seeded(server.url(partial), size)
            await asyncio.to_thread(server.sql, "VACUUM ANALYZE", partial)  # otherwise autovacuum runs during a row
            await asyncio.to_thread(server.sql, f"ALTER DATABASE {partial} RENAME TO {name}")
        return server.url(name)

    async def copy(self, engine: Engine, size: int) -> str:
        """Return the URL of a new, writable copy of the database with `size` mailboxes."""
        await self.seeded(engine, size)
        if engine is Engine.SQLITE:
            path = self._new_file()
            await asyncio.to_thread(shutil.copyfile, await self._seeded_file(size), path)
            return SQLITE_PREFIX + str(path)
        server = await self._running_server()
        source = f"seeded_{size}"
        disconnect = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'"  # noqa: S608
        await asyncio.to_thread(server.sql, disconnect)
        return server.url(await self._new_database(server, f"TEMPLATE {source} STRATEGY FILE_COPY"))

    async def new(self, engine: Engine) -> str:
        """Return the URL of a new database without a schema."""
        if engine is Engine.SQLITE:
            return SQLITE_PREFIX + str(self._new_file())
        server = await self._running_server()
        return server.url(await self._new_database(server))

    async def close(self) -> None:
        """Remove the copies and stop the PostgreSQL server."""
        for copy in self._copies:
            for path in copy.parent.glob(f"{copy.name}*"):
                path.unlink()
        if self._server is None:
            return
        for number in range(1, next(self._numbers)):
            await asyncio.to_thread(self._server.sql, f"DROP DATABASE IF EXISTS copy_{number} WITH (FORCE)")
        await asyncio.to_thread(self._server.stop)

    async def server_pid(self) -> int:
        """Return the process id of the PostgreSQL server's postmaster."""
        return (await self._running_server()).pid

    def _new_file(self) -> Path:
        path = self._directory / f"copy-{os.getpid()}-{next(self._numbers)}.db"
        self._copies.append(path)
        return path

    async def _new_database(self, server: PostgresServer, options: str = "") -> str:
        name = f"copy_{next(self._numbers)}"
        await asyncio.to_thread(server.sql, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await asyncio.to_thread(server.sql, f"CREATE DATABASE {name} {options}")
        return name

    async def _seeded_file(self, size: int) -> Path:
        path = self._directory / f"seeded-{size}.db"
        if not path.exists():
            partial = path.with_suffix(".partial")
            with suppress(FileNotFoundError):
                partial.unlink()
            await create_seeded(SQLITE_PREFIX + str(partial), size)
            partial.rename(path)
        return path

    async def _running_server(self) -> PostgresServer:
        if self._server is None:
            directory = self._directory / "server"
            if (directory / "data" / "PG_VERSION").exists():
                server = PostgresServer(directory, settings=POSTGRESQL)
                server.password = (directory / "password").read_text()
            else:
                shutil.rmtree(directory, ignore_errors=True)
                server = PostgresServer(directory, settings=POSTGRESQL)
                await asyncio.to_thread(server.initialize)
            await asyncio.to_thread(server.start)
            self._server = server
        return self._server


async def create_seeded(
    url: str, size: int, start: datetime = START, interval: timedelta = timedelta(seconds=1)
) -> None:
    """Migrate an empty database and insert `size` mailboxes, created from `start` on at an interval."""
    await asyncio.to_thread(migrations.migrate, url)
    await seed(url, size, start, interval)


def _has_database(server: PostgresServer, name: str) -> bool:
    return bool(server.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))  # noqa: S608 - our own name


def _fingerprint() -> str:
    """Return a digest of the migrations and the seed, by which the cache is keyed."""
    digest = hashlib.sha256()
    for path in (*_MIGRATIONS, *_SEED):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
