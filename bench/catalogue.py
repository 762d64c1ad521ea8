"""Every row, in the order in which they are measured."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.engine import Engine
from bench.figures import Figure
from bench.rows import encoding, gateway, growth, pages, peers, reads, searching
from bench.stand import Stand

BOTH = (Engine.SQLITE, Engine.POSTGRESQL)


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured together, on a fresh set of processes."""

    name: str
    run: Callable[[Stand], Awaitable[list[Figure]]]
    engines: tuple[Engine, ...] = BOTH


ROWS = (
    Row("get-grpc", reads.get),
    Row("get-rest", gateway.run),
    Row("list", reads.first_page),
    Row("peers", peers.run, engines=(Engine.SQLITE,)),
    Row("encode", encoding.run),
    Row("growth", growth.run),
    Row("search", searching.run),
    Row("pages", pages.run),
)
