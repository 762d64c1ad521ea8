"""What was measured: a table for people, and a file of JSON that keeps the last of each row and engine."""

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

from bench.figures import Figure

RESULTS = Path(__file__).parent / "results.json"
WIDTH = 180  # where no terminal says how wide it is
MET = {True: "[green]yes[/]", False: "[bold red]no[/]", None: ""}


@dataclass(frozen=True, slots=True)
class Result:
    """One row on one engine."""

    name: str
    engine: str
    seconds: float
    figures: Sequence[Figure]


def show(results: Sequence[Result]) -> None:
    """Print the table, and below it the notes."""
    table = Table("what", "engine", "figure", "floor", "ratio", "target", "met")
    for result in results:
        for figure in result.figures:
            target = "" if figure.target is None else str(figure.target)
            values = (number(figure.value, figure.unit), number(figure.floor, figure.unit), number(figure.ratio))
            table.add_row(figure.what, result.engine, *values, target, MET[figure.met])
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    for result in results:
        for figure in result.figures:
            if figure.note:
                console.print(f"{figure.what}, {result.engine}: {figure.note}", markup=False, highlight=False)


def number(value: float | None, unit: str = "") -> str:
    """A number to three digits that mean something, with its unit."""
    if value is None:
        return ""
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def keep(result: Result) -> None:
    """Write a result in the place of the last one of its row and engine."""
    kept = load()
    kept[f"{result.name}/{result.engine}"] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "sqlite": sqlite3.sqlite_version,
        "seconds": result.seconds,
        "figures": [
            asdict(figure) | {"target": figure.target and str(figure.target), "ratio": figure.ratio, "met": figure.met}
            for figure in result.figures
        ],
    }
    RESULTS.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def load() -> dict[str, Any]:
    """What is kept."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return kept
