"""Migrations to any revision, and the tables of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

from postroomd.storage import migrations
from postroomd.storage.drivers import migration_engine

Result = TypeVar("Result")

SCRIPTS = Path(migrations.__file__).parent


def script_directory() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return ScriptDirectory.from_config(config)


REVISIONS = [script.revision for script in reversed(list(script_directory().walk_revisions()))]
"""Every revision, oldest first."""


def run(url: str, work: Callable[[Connection], Result]) -> Result:
    """Return the result of `work` in a transaction of its own."""

    async def transaction() -> Result:
        engine = migration_engine(url)
        async with engine.begin() as connection:
            result = await connection.run_sync(work)
        await engine.dispose()
        return result

    return asyncio.run(transaction())


def migrate_to(url: str, revision: str) -> None:
    """Migrate the schema to a revision."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    run(url, upgrade)


def is_declared(name: str | None, *_: object) -> bool:
    """Return whether the schema declares a table or index: all but Alembic's and the engines' search indexes."""
    return name is None or (name != "alembic_version" and not name.startswith("search_"))


def reflect(connection: Connection) -> MetaData:
    tables = MetaData()
    tables.reflect(connection, only=is_declared)
    return tables
