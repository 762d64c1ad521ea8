"""`postroom copy`: copies a database into an empty one."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import SecretStr, TypeAdapter, ValidationError

from postroomd.cli.bulk.progress import ProgressLines, write_line
from postroomd.cli.output import print_table
from postroomd.runtime.errors import FatalError
from postroomd.settings import DatabaseUrl, InvalidSetting

if TYPE_CHECKING:
    from postroomd.storage.copy.copying import ProgressCallback, Stage


def copy(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            envvar="POSTROOM_COPY_FROM",
            show_envvar=False,
            show_default=False,
            help="URL of the database to copy. (POSTROOM_COPY_FROM, which process lists do not show)",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            envvar="POSTROOM_COPY_TO",
            show_envvar=False,
            show_default=False,
            help="URL of the empty database to copy it to. (POSTROOM_COPY_TO)",
        ),
    ] = None,
) -> None:
    """Copy a database into an empty one, and verify the copy.

    The engines may be the same or different. Stop the services, gateways and workers of both databases first:
    concurrent writes are not copied. To resume an interrupted copy, run the same command again.
    """
    source_url, target_url = _validated_url("--from", source), _validated_url("--to", target)

    from postroomd.observability import logs
    from postroomd.storage.copy.copying import CopyFailed, copy_database, is_same_database, location

    if is_same_database(source_url, target_url):
        raise InvalidSetting("--from and --to: both are the same database")
    # The command prints one line about a failure, which a log line would only repeat.
    logs.configure("error", process="copy")
    os.umask(0o077)  # a new SQLite file and its directory are private
    try:
        with _progress(f"copying {location(source_url)} to {location(target_url)}") as progress:
            copied = asyncio.run(copy_database(source_url, target_url, progress=progress))
    except CopyFailed as error:
        raise FatalError(str(error)) from error
    except KeyboardInterrupt as error:
        raise FatalError("interrupted: run the same command again to resume") from error
    print_table(
        ("table", "rows", "checksum, the same on both sides"),
        [(each.table, f"{each.rows:,}", each.checksum) for each in copied],
        justify={"rows": "right"},
    )


def _validated_url(flag: str, url: str | None) -> str:
    """Return a database URL once validated. Raises InvalidSetting, which never contains the URL."""
    names = f"{flag} or POSTROOM_COPY_{flag.removeprefix('--').upper()}"
    if not url:
        raise InvalidSetting(f"{names}: expected the URL of a database")
    try:
        checked: SecretStr = TypeAdapter(DatabaseUrl).validate_python(url)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
    else:
        from postroomd.storage.copy.copying import is_readable_url

        text = checked.get_secret_value()
        if is_readable_url(text):
            return text
        message = "not a valid URL"
    # Outside the handlers, so that the dropped errors, which hold the URL, are not its context.
    raise InvalidSetting(f"{names}: {message.removeprefix('Value error, ')}")


@contextmanager
def _progress(title: str) -> Iterator["ProgressCallback"]:
    """Show the progress of each stage on stderr: a bar on a terminal, otherwise lines. Yields the copy's callback."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        "{task.description:<8}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        "{task.fields[table]}",
    )
    tasks: dict[str, TaskID] = {}
    lines: dict[str, ProgressLines] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def watch(stage: "Stage", total: int, table: str, rows: int) -> None:
            if not tasks:
                typer.echo(title, err=True)
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, table=table)
                if not console.is_terminal:
                    typer.echo(f"{stage} {total:,} rows", err=True)
                    lines[stage] = ProgressLines(stage, total, write_line)
            if stage in lines:
                lines[stage].advance(rows)
            bars.update(tasks[stage], advance=rows, table=table)

        yield watch
