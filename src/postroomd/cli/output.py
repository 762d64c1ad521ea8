"""Output of the commands: lists as tables or JSON, and errors as one line on stderr."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

PIPE_WIDTH = 240  # columns of a table when stdout is not a terminal


class ListFormat(StrEnum):
    """Format of a list."""

    JSON = "json"
    TABLE = "table"


ListOutput = Annotated[ListFormat, typer.Option("--output", help="Output format.")]


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output: ListFormat) -> None:
    """Print a list as JSON, or as a table of these columns."""
    if output is ListFormat.JSON:
        typer.echo(json.dumps(rows, indent=2, default=_rfc3339))
        return
    print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], justify: Mapping[str, Literal["left", "right"]] | None = None
) -> None:
    """Print a table; cells that are too long are folded. `justify` maps columns to their alignment, by default left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify=(justify or {}).get(column, "left"))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_error(message: str) -> None:
    """Print an error on stderr. Help, which has several lines, is printed as it is."""
    typer.echo(message if "\n" in message else f"postroom: {message}", err=True)


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case _:
            return str(value)
