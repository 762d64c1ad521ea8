"""What the commands that work on the database itself share: opening it, and showing what they found.

They work while the service runs.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from postroomd.durations import parse_duration
from postroomd.runtime.processes import require_database
from postroomd.settings import BadSetting, Settings
from postroomd.storage.protocols.repository import Repository

Result = TypeVar("Result")

LONGEST_LIFE = timedelta(days=36_500)
PIPE_WIDTH = 240  # columns of a table that goes to no terminal


class ListOutput(StrEnum):
    """How a list is shown."""

    JSON = "json"
    TABLE = "table"


ListFormat = Annotated[ListOutput, typer.Option("--output", help="How to show it.")]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Let the key change nothing.")]
ExpiresIn = Annotated[
    str | None, typer.Option("--expires-in", metavar="DURATION", help="Let the key expire: 30d, 12h, or seconds.")
]


def end_of_life(expires_in: str | None, now: datetime) -> datetime | None:
    """When a new key expires; None for never. Raises BadSetting."""
    if expires_in is None:
        return None
    try:
        life = parse_duration(expires_in)
    except ValueError as error:
        raise BadSetting(f"--expires-in: {error}") from error
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise BadSetting(f"--expires-in: more than 0 and at most {LONGEST_LIFE.days}d is expected")
    return now + life


def on_database(settings: Settings, work: Callable[[Repository], Awaitable[Result]]) -> Result:
    """What `work` answers. Raises SchemaMismatch, StorageUnavailable, Failed where there is no database."""
    from postroomd.observability import logs
    from postroomd.storage.migrations import require_current
    from postroomd.storage.opening import open_repository

    # One line says what is wrong here: a log beside it would say it twice.
    logs.configure("debug" if settings.log_level == "debug" else "error", settings.log_format, process="cli")
    require_database(settings)
    url = settings.database_url.get_secret_value()
    require_current(url)

    async def run() -> Result:
        repository = await open_repository(url)
        try:
            return await work(repository)
        finally:
            await repository.close()

    return asyncio.run(run())


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output: ListOutput) -> None:
    """Print a list, as JSON or as a table of these columns."""
    if output is ListOutput.JSON:
        typer.echo(json.dumps(rows, indent=2, default=_rfc3339))
        return
    show_table(columns, [[_text(row[column]) for column in columns] for row in rows])


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case _:
            return str(value)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
