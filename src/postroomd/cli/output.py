"""Output of the commands: lists as tables, JSON or CSV, and errors as one line on stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from postroomd.cli.csv_cells import escape_formula
from postroomd.cli.errors import CommandFailed

SHORTENED = frozenset({"description", "dns_value", "error", "message", "reason", "lock_reason"})
"""Columns of free text, which are shortened where the terminal is too narrow; ids and addresses never are."""
MIN_SHORTENED = 16  # columns of the terminal
GAP = 2  # likewise, between two columns of a table


class ListFormat(StrEnum):
    """Format of a list."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


ListOutput = Annotated[ListFormat, typer.Option("--output", help="Output format.")]


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output: ListFormat) -> None:
    """Print a list as a table of these columns, or with every field as JSON or CSV."""
    match output:
        case ListFormat.JSON:
            typer.echo(json.dumps(rows, indent=2, ensure_ascii=False, default=rfc3339))
        case ListFormat.CSV:
            _print_csv(rows, getattr(rows, "fields", columns))
        case ListFormat.TABLE:
            print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def print_row(row: Mapping[str, Any], output: ListFormat) -> None:
    """Print one resource: a JSON object, CSV, or one field a line."""
    match output:
        case ListFormat.JSON:
            typer.echo(json.dumps(row, indent=2, ensure_ascii=False, default=rfc3339))
        case ListFormat.CSV:
            _print_csv([row], list(row))
        case ListFormat.TABLE:
            width = max(map(len, row))
            for name, value in row.items():
                typer.echo(f"{name:<{width}}  {_printable(_cell(value))}")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], justify: Mapping[str, Literal["left", "right"]] | None = None
) -> None:
    """Print a table, as `table_text` returns it."""
    typer.echo(table_text(columns, rows, justify))


def table_text(
    columns: Sequence[str], rows: Sequence[Sequence[str]], justify: Mapping[str, Literal["left", "right"]] | None = None
) -> str:
    """Return a table, one line per row. `justify` maps columns to their alignment, by default left.

    On a terminal that is too narrow, free texts are shortened; the rest is printed whole even if the terminal has to
    wrap it, so that every id can be copied.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    cells = [[_printable(cell) for cell in row] for row in rows]
    natural = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    widths = _fit(columns, natural, console.width) if console.is_terminal else natural
    # Every width is given: Rich reduces all columns alike where a table is too wide, those too that have a minimum.
    table = Table(box=None, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column, no_wrap=True, overflow="ellipsis", width=width, justify=(justify or {}).get(column, "left")
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console.width = max(console.width, sum(widths) + GAP * len(widths))
    with console.capture() as capture:
        console.print(table)
    # Without the padding of the last column, which would wrap a line on a terminal that is just wide enough.
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _fit(columns: Sequence[str], natural: Sequence[int], available: int) -> list[int]:
    """Return the widths of columns in a terminal's width: free texts are shortened as far as needed, the last first."""
    widths = list(natural)
    excess = sum(widths) + GAP * (len(widths) - 1) - available
    for index in reversed(range(len(columns))):
        if excess > 0 and columns[index] in SHORTENED:
            shortest = min(widths[index], max(MIN_SHORTENED, len(columns[index])))
            reduced = max(shortest, widths[index] - excess)
            excess -= widths[index] - reduced
            widths[index] = reduced
    return widths


def print_secret(text: str, revocation: str) -> None:
    """Print the secret of a new key, which is not stored. `revocation` is the command that revokes the key.

    Raises CommandFailed if that fails, such as on a full disk or a closed pipe: the key exists already.
    """
    try:
        typer.echo(text)
        sys.stdout.flush()
    except OSError as error:
        raise CommandFailed(
            f"the key is created, but its secret could not be printed, and is not stored: {error.strerror}: run"
            f" `{revocation}`, and create another"
        ) from error


@contextmanager
def waiting(reason: str) -> Iterator[None]:
    """Show on stderr what a command waits for, if that is a terminal."""
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(reason)):
        yield


def print_error(message: str) -> None:
    """Print an error on stderr. Help, which has several lines, is printed as it is."""
    typer.echo(message if "\n" in message else f"postroom: {message}", err=True)


def _print_csv(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
    """Print rows as CSV (RFC 4180), whose first line has the names of the fields: those given if there is no row."""
    import csv

    writer = csv.writer(sys.stdout)
    names = list(rows[0]) if rows else list(fields)
    writer.writerow(names)
    for row in rows:
        writer.writerow([escape_formula(_csv_cell(row[name])) for name in names])


def rfc3339(instant: datetime) -> str:
    """Return an instant in UTC as RFC 3339 has it, such as 2026-11-26T08:00:00Z."""
    return instant.isoformat().replace("+00:00", "Z")


def _csv_cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return rfc3339(value)
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=rfc3339)
        case _:
            return str(value)


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=rfc3339)
        case _:
            return str(value)


def _printable(text: str) -> str:
    """Return a text that is one line and can't control the terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "�" for each in text)
