"""What came of the scenarios: a table for people, and a file of JSON that keeps the last of each."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.chaos.outcome import Outcome

RESULTS = Path(__file__).parents[1] / "chaos-results.json"
SHOWN = 5  # of what does not hold


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario on one engine."""

    name: str
    fault: str
    engine: str
    wanted: int
    seconds: float
    outcome: Outcome

    @property
    def holds(self) -> bool:
        """Whether every fault was made, and everything held."""
        return self.outcome.holds and self.outcome.count >= self.wanted


def show(results: Sequence[Result]) -> None:
    """Print the table, and below it what does not hold."""
    table = Table("fault", "engine", "how many", "what was seen", "holds")
    for result in results:
        holds = "[green]yes[/]" if result.holds else "[bold red]no[/]"
        table.add_row(result.fault, result.engine, f"{result.outcome.count:,}", result.outcome.seen, holds)
    console = Console()
    console.print(table)
    for result in results:
        amiss = [*result.outcome.broken, *result.outcome.slow]
        for line in amiss[:SHOWN]:
            console.print(f"{result.name} on {result.engine}: {line}", style="red", markup=False)
        if len(amiss) > SHOWN:
            console.print(f"{result.name} on {result.engine}: and {len(amiss) - SHOWN} more", style="red")


def keep(result: Result) -> None:
    """Write a result in the place of the last one of its scenario and engine."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[f"{result.name}/{result.engine}"] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "holds": result.holds,
        **asdict(result),
    }
    RESULTS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
