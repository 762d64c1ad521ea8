"""What of a catalogue is to be done, by the command line: which entries, on which engines."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from bench.engine import Engine


class Entry(Protocol):
    """Something that is done on some of the engines."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    @property
    def engines(self) -> Sequence[Engine]:
        """Where it can be done."""


AnEntry = TypeVar("AnEntry", bound=Entry)


def add_choice(parser: ArgumentParser, catalogue: Sequence[Entry]) -> None:
    """Let the command line choose."""
    parser.add_argument("--engine", choices=[*Engine, "both"], default="both")
    parser.add_argument("--only", choices=[entry.name for entry in catalogue], action="append")


def chosen(catalogue: Sequence[AnEntry], asked: Namespace) -> Iterator[tuple[AnEntry, Engine]]:
    """What was asked for, on the engines that were asked for."""
    for entry in catalogue:
        if not asked.only or entry.name in asked.only:
            for engine in entry.engines:
                if asked.engine in {engine, "both"}:
                    yield entry, engine
