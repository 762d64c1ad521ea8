"""Seeded databases, each made once and kept in the cache for as long as the schema and the seed are what they were.

A row that writes takes a copy. The PostgreSQL server is one of its own, durable as an operator's is.
"""

import asyncio
import hashlib
import os
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count as counter
from pathlib import Path

from bench.chaos.postgres import kill_server
from bench.engine import Engine
from bench.seed import START, seed
from postroomd.settings import SQLITE_PREFIX
from postroomd.storage import migrations
from tests.support.postgres import PostgresServer

CACHE = Path(__file__).parents[1] / ".cache" / "bench"
POSTGRESQL = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}

_SEED = (Path(__file__).with_name("seed.py"), Path(__file__).with_name("bulk.py"))
_MIGRATIONS = sorted((Path(migrations.__file__).parent / "versions").glob("*.py"))


class Databases:
    """The seeded databases of this run. End it by `close`."""

    def __init__(self, cache: Path = CACHE) -> None:
        self._home = cache / _fingerprint()
        self._server: PostgresServer | None = None
        self._copies: list[Path] = []
        self._numbers = counter(1)
        for outdated in set(cache.glob("*")) - {self._home}:
            shutil.rmtree(outdated)
        for path in (cache, self._home):
            path.mkdir(parents=True, exist_ok=True)

    async def seeded(self, engine: Engine, count: int) -> str:
        """The URL of a database with so many mailboxes, which is not to be written to."""
        if engine is Engine.SQLITE:
            return SQLITE_PREFIX + str(await self._seeded_file(count))
        server = await self._running()
        name = f"seeded_{count}"
        if not await asyncio.to_thread(_has_database, server, name):
            partial = f"partial_{count}"
            await asyncio.to_thread(server.sql, f"DROP DATABASE IF EXISTS {partial}")
            await asyncio.to_thread(server.sql, f"CREATE DATABASE {partial}")
            await fill(server.url(partial), count)
            await asyncio.to_thread(server.sql, "VACUUM ANALYZE", partial)  # as autovacuum would have by then
            await asyncio.to_thread(server.sql, f"ALTER DATABASE {partial} RENAME TO {name}")
        return server.url(name)

    async def copy(self, engine: Engine, count: int) -> str:
        """The URL of a new copy of that database."""
        await self.seeded(engine, count)
        if engine is Engine.SQLITE:
            path = self._new_file()
            await asyncio.to_thread(shutil.copyfile, await self._seeded_file(count), path)
            return SQLITE_PREFIX + str(path)
        server = await self._running()
        source = f"seeded_{count}"
        leaving = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'"  # noqa: S608
        await asyncio.to_thread(server.sql, leaving)
        return server.url(await self._new_database(server, f"TEMPLATE {source} STRATEGY FILE_COPY"))

    async def new(self, engine: Engine) -> str:
        """The URL of a new database without a schema."""
        if engine is Engine.SQLITE:
            return SQLITE_PREFIX + str(self._new_file())
        server = await self._running()
        return server.url(await self._new_database(server))

    async def close(self) -> None:
        """Stop the server, and remove the copies."""
        for copy in self._copies:
            for path in copy.parent.glob(f"{copy.name}*"):
                path.unlink()
        if self._server is None:
            return
        for number in range(1, next(self._numbers)):
            await asyncio.to_thread(self._server.sql, f"DROP DATABASE IF EXISTS copy_{number} WITH (FORCE)")
        await asyncio.to_thread(self._server.stop)
        await kill_server(self._server)

    async def server_pid(self) -> int:
        """The process that leads the PostgreSQL server."""
        server = await self._running()
        return int((server.data / "postmaster.pid").read_text().split()[0])

    def _new_file(self) -> Path:
        path = self._home / f"copy-{os.getpid()}-{next(self._numbers)}.db"
        self._copies.append(path)
        return path

    async def _new_database(self, server: PostgresServer, how: str = "") -> str:
        name = f"copy_{next(self._numbers)}"
        await asyncio.to_thread(server.sql, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await asyncio.to_thread(server.sql, f"CREATE DATABASE {name} {how}")
        return name

    async def _seeded_file(self, count: int) -> Path:
        path = self._home / f"seeded-{count}.db"
        if not path.exists():
            partial = path.with_suffix(".partial")
            with suppress(FileNotFoundError):
                partial.unlink()
            await fill(SQLITE_PREFIX + str(partial), count)
            partial.rename(path)
        return path

    async def _running(self) -> PostgresServer:
        if self._server is None:
            directory = self._home / "server"
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


async def fill(url: str, count: int, start: datetime = START, apart: timedelta = timedelta(seconds=1)) -> None:
    """Give an empty database its schema, and so many mailboxes, created from `start` on."""
    await asyncio.to_thread(migrations.migrate, url)
    await seed(url, count, start, apart)


def _has_database(server: PostgresServer, name: str) -> bool:
    return bool(server.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))  # noqa: S608 - our own name


def _fingerprint() -> str:
    """What the schema and the seed are now."""
    digest = hashlib.sha256()
    for path in (*_MIGRATIONS, *_SEED):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
