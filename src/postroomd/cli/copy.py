"""`postroom copy`: the whole of one database into another, empty one."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import SecretStr, TypeAdapter, ValidationError

from postroomd.runtime.processes import Failed
from postroomd.settings import BadSetting, DatabaseUrl

if TYPE_CHECKING:
    from postroomd.storage.copy.contents import Contents
    from postroomd.storage.copy.copying import ProgressCallback, Stage

PIPE_WIDTH = 240  # columns of a table that goes to no terminal


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
            help="The database to copy. (POSTROOM_COPY_FROM, which shows in no list of processes)",
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
            help="The empty database to copy it to. (POSTROOM_COPY_TO)",
        ),
    ] = None,
) -> None:
    """Copy a whole database into an empty one, of either engine, and compare the two.

    Stop the services, gateways and workers of both databases first: what they write meanwhile is not copied. An
    interrupted copy goes on where it was when the same command is run again.
    """
    source_url, target_url = _checked("--from", source), _checked("--to", target)

    from postroomd.observability import logs
    from postroomd.storage.copy.copying import CopyFailed, copy_database, is_same_database, location

    if is_same_database(source_url, target_url):
        raise BadSetting("--from and --to: both lead to the same database")
    logs.configure("error", process="copy")  # one line says what is wrong; a log beside it would say it twice
    os.umask(0o077)  # a new SQLite file, and its directory, are their owner's alone
    try:
        with _shown(f"copying {location(source_url)} to {location(target_url)}") as progress:
            copied = asyncio.run(copy_database(source_url, target_url, progress=progress))
    except CopyFailed as error:
        raise Failed(str(error)) from error
    except KeyboardInterrupt as error:
        raise Failed("interrupted: the same command goes on where it was") from error
    _show(copied)


def _checked(flag: str, url: str | None) -> str:
    """The URL, of a form that Postroom knows. Raises BadSetting, which repeats nothing of it."""
    names = f"{flag} or POSTROOM_COPY_{flag.removeprefix('--').upper()}"
    if not url:
        raise BadSetting(f"{names}: the URL of a database is expected")
    try:
        checked: SecretStr = TypeAdapter(DatabaseUrl).validate_python(url)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
    else:
        from postroomd.storage.copy.copying import is_readable_url

        text = checked.get_secret_value()
        if is_readable_url(text):
            return text
        message = "it can't be read as a URL"
    # Outside the handlers: the errors that are dropped here hold the value.
    raise BadSetting(f"{names}: {message.removeprefix('Value error, ')}")


@contextmanager
def _shown(title: str) -> Iterator["ProgressCallback"]:
    """Shows how far the copy is on stderr, once it has begun: a bar a stage on a terminal, else a line a stage."""
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
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def watch(stage: "Stage", total: int, table: str, rows: int) -> None:
            if not tasks:
                typer.echo(title, err=True)
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, table=table)
                if not console.is_terminal:
                    typer.echo(f"{stage} {total:,} rows", err=True)
            bars.update(tasks[stage], advance=rows, table=table)

        yield watch


def _show(copied: Sequence["Contents"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("checksum, the same on both sides", overflow="fold")
    for each in copied:
        table.add_row(each.table, f"{each.rows:,}", each.checksum)
    console.print(table)
