"""Command-line selection of catalogue entries and engines."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from bench.engine import Engine


class Entry(Protocol):
    """A row or a scenario, which runs on one or both engines."""

    @property
    def name(self) -> str:
        """Its identifier on the command line."""

    @property
    def engines(self) -> Sequence[Engine]:
        """The engines it runs on."""


AnEntry = TypeVar("AnEntry", bound=Entry)


def add_selection_options(parser: ArgumentParser, catalogue: Sequence[Entry], *, what: str) -> None:
    """Add the options --engine and --only. `what` is the word for one entry in the help."""
    parser.add_argument("--engine", choices=[*Engine, "both"], default="both", help="default: both")
    parser.add_argument(
        "--only",
        choices=[entry.name for entry in catalogue],
        nargs="+",
        action="extend",
        metavar=what.upper(),
        help=f"run only these: {', '.join(entry.name for entry in catalogue)} (default: all)",
    )


def selected(catalogue: Sequence[AnEntry], arguments: Namespace) -> Iterator[tuple[AnEntry, Engine]]:
    """Yield the selected entries, each with every selected engine it runs on."""
    for entry in catalogue:
        if not arguments.only or entry.name in arguments.only:
            for engine in entry.engines:
                if arguments.engine in {engine, "both"}:
                    yield entry, engine
