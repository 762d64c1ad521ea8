"""Schema migrations, by Alembic. Revisions run forward only, on live data."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from sqlalchemy import Connection, inspect, make_url, text

from postroomd.domain.errors import SchemaMismatch, StorageUnavailable, summarize
from postroomd.storage.database import raise_translated
from postroomd.storage.drivers import driver_for, driver_of, migration_engine
from postroomd.storage.failures import explain_for
from postroomd.storage.schema import ENCRYPTION_INDEX, HISTORY_INDEXES, SEARCHED_NAMES, TENANT_TABLE_NAMES

Result = TypeVar("Result")

COPY_PROGRESS = "copy_progress"
"""A table that exists while a copy into the database is unfinished."""

HEAD = "0022"
"""The revision that this version works with. A constant, so that comparing at startup need not load Alembic."""


def migrate(url: str) -> None:
    """Upgrade the schema of the database at `url`, which may be empty, to HEAD.

    Creates what a database at HEAD lacks because it was restored from a dump: on PostgreSQL the tenants' role, its
    grants and policies.

    Raises SchemaMismatch for a database of a newer version, StorageUnavailable.
    """
    asyncio.run(_run(url, _upgrade))
    asyncio.run(_build_indexes(url))


def require_current(url: str) -> None:
    """Raise SchemaMismatch, with a remedy in its message, if the schema is not at HEAD or a copy is unfinished."""
    revision, unfinished, hidden = asyncio.run(_run(url, _state))
    where = driver_for(url).describe(make_url(url), with_user=True)
    if unfinished:
        raise SchemaMismatch(f"{where}: it is an unfinished copy: run the same `postroom copy` again first")
    if revision is None:
        raise SchemaMismatch(f"{where}: it is empty: run `postroom migrate` first")
    if revision < HEAD:
        raise SchemaMismatch(f"{where}: it is at schema {revision}, behind {HEAD}: run `postroom migrate` first")
    if revision > HEAD:
        raise SchemaMismatch(f"{where}: it is at schema {revision}, ahead of {HEAD}: run a newer Postroom")
    if hidden:
        raise SchemaMismatch(
            f"{where}: the user does not see every row of {summarize(hidden)}: connect as the owner of the tables"
        )


def _state(connection: Connection) -> tuple[str | None, bool, Sequence[str]]:
    """Return the revision, whether a copy is unfinished, and the tables with rows that the user does not see."""
    hidden = driver_of(connection).hidden_tables(connection, TENANT_TABLE_NAMES)
    return current_revision(connection), inspect(connection).has_table(COPY_PROGRESS), hidden


def current_revision(connection: Connection) -> str | None:
    """Return the revision of a database's schema, or None if it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if revision is None else str(revision)


def _upgrade(connection: Connection) -> None:
    driver = driver_of(connection)
    revision = current_revision(connection)
    if revision is not None and revision > HEAD:
        where = driver.describe(connection.engine.url, with_user=True)
        raise SchemaMismatch(f"{where}: it is at schema {revision}, ahead of {HEAD}: run a newer Postroom")
    if revision != HEAD:
        driver.prepare(connection)
        _run_revisions(connection)
    driver.repair(connection, TENANT_TABLE_NAMES, SEARCHED_NAMES)


def _run_revisions(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


async def _build_indexes(url: str) -> None:
    """Build the indexes that no revision builds, since PostgreSQL cannot build them concurrently in a transaction."""
    engine = migration_engine(url)
    try:
        await driver_for(url).build_indexes(engine, (*HISTORY_INDEXES, ENCRYPTION_INDEX))
    except Exception as error:
        _raise_explained(url, error)
    finally:
        await engine.dispose()


async def _run(url: str, work: Callable[[Connection], Result]) -> Result:
    engine = migration_engine(url)  # may raise StorageUnavailable
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except Exception as error:
        _raise_explained(url, error)
    finally:
        await engine.dispose()


def _raise_explained(url: str, error: Exception) -> NoReturn:
    """Raise StorageUnavailable with the cause of an error that the operator can remedy, otherwise its translation."""
    if reason := explain_for(url, error):
        raise StorageUnavailable(reason=reason) from error
    raise_translated(error)
