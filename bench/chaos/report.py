"""Output of results: a table, and bench/chaos-results.json with the latest result of each scenario and engine."""

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
MAX_PRINTED = 5  # failures per result


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one scenario on one engine."""

    name: str
    fault: str
    engine: str
    requested: int
    """The number of faults to inject."""
    seconds: float
    outcome: Outcome

    @property
    def passed(self) -> bool:
        """Whether every fault was injected and every requirement met."""
        return self.outcome.passed and self.outcome.count >= self.requested


def print_table(results: Sequence[Result]) -> None:
    """Print the table, followed by the failures."""
    table = Table("fault", "engine", "count", "outcome", "passed")
    for result in results:
        passed = "[green]yes[/]" if result.passed else "[bold red]no[/]"
        table.add_row(result.fault, result.engine, f"{result.outcome.count:,}", result.outcome.summary, passed)
    console = Console()
    console.print(table)
    for result in results:
        failures = [*result.outcome.violations, *result.outcome.too_slow]
        for line in failures[:MAX_PRINTED]:
            console.print(f"{result.name} on {result.engine}: {line}", style="red", markup=False)
        if len(failures) > MAX_PRINTED:
            console.print(f"{result.name} on {result.engine}: {len(failures) - MAX_PRINTED} more", style="red")


def save(result: Result) -> None:
    """Write a result to the file, replacing the previous one of its scenario and engine."""
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    saved[f"{result.name}/{result.engine}"] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "passed": result.passed,
        **asdict(result),
    }
    RESULTS.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
