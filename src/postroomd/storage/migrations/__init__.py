"""Schema migrations, by Alembic. Revisions run forward only, on live data."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, inspect, text

from postroomd.domain.errors import SchemaMismatch
from postroomd.storage.database import raise_translated
from postroomd.storage.drivers import migration_engine

Result = TypeVar("Result")

COPY_PROGRESS = "copy_progress"
"""A table that exists while a copy into the database is unfinished."""

HEAD = "0007"
"""The revision that this version works with. A constant, so that comparing at startup need not load Alembic."""


def migrate(url: str) -> None:
    """Upgrade the schema of the database at `url`, which may be empty, to HEAD.

    Raises SchemaMismatch for a database of a newer version, StorageUnavailable.
    """
    asyncio.run(_run(url, _upgrade))


def require_current(url: str) -> None:
    """Raise SchemaMismatch, with a remedy in its message, if the schema is not at HEAD or a copy is unfinished."""
    revision, unfinished = asyncio.run(
        _run(url, lambda connection: (current_revision(connection), inspect(connection).has_table(COPY_PROGRESS)))
    )
    if unfinished:
        raise SchemaMismatch("the database is an unfinished copy: run the same `postroom copy` again first")
    if revision is None:
        raise SchemaMismatch("the database is empty: run `postroom migrate` first")
    if revision < HEAD:
        raise SchemaMismatch(f"the database is at schema {revision}, behind {HEAD}: run `postroom migrate` first")
    if revision > HEAD:
        raise SchemaMismatch(f"the database is at schema {revision}, ahead of {HEAD}: run a newer Postroom")


def current_revision(connection: Connection) -> str | None:
    """Return the revision of a database's schema, or None if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if revision is None else str(revision)


def _upgrade(connection: Connection) -> None:
    revision = current_revision(connection)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise SchemaMismatch(f"the database is at schema {revision}, ahead of {HEAD}: run a newer Postroom")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


async def _run(url: str, work: Callable[[Connection], Result]) -> Result:
    engine = migration_engine(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except Exception as error:
        raise_translated(error)
    finally:
        await engine.dispose()
