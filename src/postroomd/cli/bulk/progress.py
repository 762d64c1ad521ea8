"""The progress of long work on stderr: a bar on a terminal, otherwise a line from time to time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

LINE_SECONDS = 10.0


class ProgressLines:
    """Writes a line about the progress every LINE_SECONDS, the first one after as long: short work writes none."""

    def __init__(
        self,
        title: str,
        total: int | None,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total = title, total
        self._write, self._clock = write, clock
        self._done = 0
        self._written_at = clock()

    def advance(self, items: int) -> None:
        """Count items that are done, and write a line if it is time."""
        self._done += items
        now = self._clock()
        if now - self._written_at < LINE_SECONDS:
            return
        self._written_at = now
        of_total = f" of {self._total:,} ({self._done * 100 // self._total} %)" if self._total else ""
        self._write(f"{self._title} {self._done:,}{of_total}")


def write_line(line: str) -> None:
    """Write a line to stderr."""
    typer.echo(line, err=True)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show the progress on stderr. Yields a function that takes numbers of items that are done.

    The total is None if it is not known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressLines(title, total, write_line).advance
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total)
        yield lambda items: bars.update(task, advance=items)
