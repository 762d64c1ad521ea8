"""`postroom backup` and `postroom restore`: backups of an SQLite database, made while everything runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from postroomd.cli.options import with_settings
from postroomd.runtime.errors import FatalError
from postroomd.settings import Settings

if TYPE_CHECKING:
    from postroomd.storage.backup import Progress, Verified

POSTGRESQL = (
    "postroom {command} is for SQLite: for PostgreSQL use pg_dump and pg_restore, or point-in-time recovery, as"
    " docs/backup.md describes"
)

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


@with_settings("backup")
def backup(
    *,
    settings: Settings,
    file: BackupFile,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Back up an SQLite database while everything runs.

    The backup is verified before it gets its name. FILE.sha256 has its checksum.
    """
    from postroomd.runtime.processes import require_database
    from postroomd.storage.backup import BackupFailed, back_up

    _require_sqlite(settings, "backup")
    require_database(settings)
    os.umask(0o077)
    try:
        with _progress(f"backing up {settings.database_path}") as progress:
            made = back_up(settings.database_path, file, overwrite=force, progress=progress)
    except BackupFailed as error:
        raise FatalError(str(error)) from error
    typer.echo(f"{file}: {_describe(made)}")


@with_settings("restore")
def restore(*, settings: Settings, file: BackupFile) -> None:
    """Replace an SQLite database by a backup, after verifying it.

    Stop the service and the worker first. The replaced database is kept under another name.
    """
    from postroomd.runtime.database_locks import all_database_locks
    from postroomd.storage.backup import BackupFailed
    from postroomd.storage.backup import restore as restore_backup
    from postroomd.storage.migrations import HEAD

    _require_sqlite(settings, "restore")
    os.umask(0o077)
    database = settings.database_path
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        with all_database_locks(database):
            restored = restore_backup(file, database, datetime.now(UTC))
    except BackupFailed as error:
        raise FatalError(str(error)) from error
    typer.echo(f"{database} is restored: {_describe(restored.backup)}")
    if restored.aside:
        typer.echo(f"The replaced database is {restored.aside}.")
    if restored.backup.revision < HEAD:
        typer.echo(f"Run `postroom migrate` next: this version of Postroom needs schema {HEAD}.")


def _require_sqlite(settings: Settings, command: str) -> None:
    if not settings.is_sqlite:
        raise FatalError(POSTGRESQL.format(command=command))


def _describe(backup: "Verified") -> str:
    mailboxes = backup.rows.get("mailboxes", 0)
    size = f"{backup.size / 1e6:,.1f} MB"
    return f"{size}, schema {backup.revision}, mailboxes: {mailboxes:,}, SHA-256 {backup.sha256}"


@contextmanager
def _progress(title: str) -> Iterator["Progress"]:
    """Show a bar on a terminal. Yields the function to report progress to."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
