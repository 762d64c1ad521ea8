"""Output of results: a table, and bench/results.json with the latest result of each row and engine."""

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measurements import Measurement

RESULTS = Path(__file__).parent / "results.json"
WIDTH = 180  # columns, if the output is no terminal
MET = {True: "[green]yes[/]", False: "[bold red]no[/]", None: ""}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one row on one engine, with its duration in seconds."""

    name: str
    engine: str
    seconds: float
    measurements: Sequence[Measurement]


def print_table(results: Sequence[Result]) -> None:
    """Print the table, followed by the notes."""
    table = Table("measurement", "engine", "value", "baseline", "ratio", "target", "met")
    for result in results:
        for one in result.measurements:
            target = "" if one.target is None else str(one.target)
            numbers = (
                format_number(one.value, one.unit),
                format_number(one.baseline, one.unit),
                format_number(one.ratio),
            )
            table.add_row(one.title, result.engine, *numbers, target, MET[one.met])
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    for result in results:
        for one in result.measurements:
            if one.note:
                console.print(f"{one.title}, {result.engine}: {one.note}", markup=False, highlight=False)


def format_number(value: float | None, unit: str = "") -> str:
    """Format a number with three significant digits and its unit."""
    if value is None:
        return ""
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def save(result: Result) -> None:
    """Write a result to the file, replacing the previous one of its row and engine."""
    saved = load()
    saved[f"{result.name}/{result.engine}"] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "sqlite": sqlite3.sqlite_version,
        "seconds": result.seconds,
        "measurements": [
            asdict(one) | {"target": one.target and str(one.target), "ratio": one.ratio, "met": one.met}
            for one in result.measurements
        ],
    }
    RESULTS.write_text(json.dumps(saved, indent=2, ensure_ascii=False) + "\n")


def load() -> dict[str, Any]:
    """Return the content of the file: "row/engine" -> result."""
    saved: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return saved
