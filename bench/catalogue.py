"""Every row, in the order in which they are measured."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.engine import BOTH, Engine
from bench.harness import Harness
from bench.measurements import Measurement
from bench.rows import (
    creating,
    encoding,
    gateway,
    growth,
    mail_logins,
    mail_views,
    memory,
    overload,
    pages,
    peers,
    reads,
    renewals,
    scaling,
    searching,
    starting,
    tls,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One or more measurements that share a set of processes."""

    name: str
    run: Callable[[Harness], Awaitable[list[Measurement]]]
    engines: tuple[Engine, ...] = BOTH


ROWS = (
    Row("get-grpc", reads.get),
    Row("get-rest", gateway.run),
    Row("tls", tls.run),
    Row("list", reads.first_page),
    Row("peers", peers.run, engines=(Engine.SQLITE,)),
    Row("encode", encoding.run),
    Row("growth", growth.run),
    Row("search", searching.run),
    Row("pages", pages.run),
    Row("batch", creating.batch),
    Row("batches-p99", creating.reads_during_batches),
    Row("start", starting.run),
    Row("scaling", scaling.run, engines=(Engine.POSTGRESQL,)),
    Row("overload", overload.run),
    Row("renewals", renewals.run),
    Row("mail-views", mail_views.run),
    Row("mail-logins", mail_logins.run),
    Row("memory", memory.run),
)
