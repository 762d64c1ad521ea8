"""Every metric of Postroom, in one table: what it is called, what it counts, and which process has it.

The names that Prometheus users know are used where there are such: gRPC's as the client libraries' interceptors have
them, HTTP's as OpenTelemetry does. No label holds anything of a tenant, or anything as it was sent.

A metric is made in the process that counts it, when that begins. The library chooses as it is imported, by
PROMETHEUS_MULTIPROC_DIR, whether values stay in the process or are shared by files in that directory; so nothing here
imports it any sooner. `python -m postroomd.observability.metrics` prints the table as docs/metrics.md has it.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from postroomd import __version__
from postroomd.observability.steps import StepKind

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

SAMPLE_SECONDS = 1.0

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds: a read takes about a millisecond, a batch of a hundred passwords some seconds."""

HASH_BUCKETS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds, in seconds: a hash at the default cost takes about 0.03."""

OPEN: tuple[str, ...] = ()
"""The values of a label that are known by what there is to serve, or by what happens, and not here."""

Made = TypeVar("Made", "Counter", "Gauge", "Histogram")

_made: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(ABC, Generic[Made]):
    """What there is to know of a metric. `labels` has the values that a label begins with, `OPEN` for none."""

    kind: ClassVar[str]

    name: str
    meaning: str
    unit: str
    processes: Sequence[str]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, *values: str) -> Made:
        """The metric itself, with these values of its labels. Where it counts often, it is to be kept."""
        made = _made.get(self.name)
        if made is None:
            made = _made[self.name] = self._make()
        return made.labels(*values) if values else made

    def begin(self) -> None:
        """Make it, so that a scrape has it before anything has happened: at 0, where its labels are known."""
        self.of()
        for values in product(*self.labels.values()):
            self.of(*values)

    @abstractmethod
    def _make(self) -> Made: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts(Metric["Counter"]):
    """A number that only grows."""

    kind = "counter"

    def _make(self) -> "Counter":
        from prometheus_client import Counter

        return Counter(self.name, self.meaning, self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(Metric["Gauge"]):
    """A number that goes up and down. `together` is what several processes' numbers come to."""

    kind = "gauge"

    together: Literal["livesum", "livemin", "livemax"]

    def _make(self) -> "Gauge":
        from prometheus_client import Gauge

        return Gauge(self.name, self.meaning, self.labels, multiprocess_mode=self.together)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times(Metric["Histogram"]):
    """How often something took how long, by upper bounds in seconds."""

    kind = "histogram"

    buckets: Sequence[float] = BUCKETS

    def _make(self) -> "Histogram":
        from prometheus_client import Histogram

        return Histogram(self.name, self.meaning, self.labels, buckets=self.buckets)


SERVE, GATEWAY, WORKER = ("serve",), ("gateway",), ("worker",)
CALL_KINDS = ("reads", "changes")
STEPS = tuple(kind for kind in StepKind if kind not in {StepKind.POLL, StepKind.DNS_LOOKUP})
FAILURES = (*StepKind, "database")

# --- The service ------------------------------------------------------------------------------------------------------

GRPC_HANDLED = Counts(
    name="grpc_server_handled_total",
    meaning="Calls answered, refused ones too, by the status that they ended with.",
    unit="calls",
    processes=SERVE,
    labels={"grpc_service": OPEN, "grpc_method": OPEN, "grpc_code": OPEN},
)
GRPC_SECONDS = Times(
    name="grpc_server_handling_seconds",
    meaning="How long calls took from being let in to their answer, well or not. Refused calls were not let in.",
    unit="seconds",
    processes=SERVE,
    labels={"grpc_service": OPEN, "grpc_method": OPEN},
)
CALLS_IN_PROGRESS = Level(
    name="postroom_calls_in_progress",
    meaning="Calls that hold a place, of --max-calls of each kind, as looked at once a second.",
    unit="calls",
    processes=SERVE,
    labels={"kind": CALL_KINDS},
    together="livesum",
)
CALLS_REFUSED = Counts(
    name="postroom_calls_refused_total",
    meaning="Calls refused because all places were taken.",
    unit="calls",
    processes=SERVE,
    labels={"kind": CALL_KINDS},
)
PASSWORD_SECONDS = Times(
    name="postroom_password_hash_seconds",
    meaning="How long the hash of a password took, once its turn had come.",
    unit="seconds",
    processes=SERVE,
    buckets=HASH_BUCKETS,
)
PASSWORDS_WAITING = Level(
    name="postroom_passwords_waiting",
    meaning="Passwords of the calls that wait for hashes, those being hashed among them.",
    unit="passwords",
    processes=SERVE,
    together="livesum",
)
PASSWORDS_REFUSED = Counts(
    name="postroom_passwords_refused_total",
    meaning="Passwords not hashed because others' would have taken too long before them.",
    unit="passwords",
    processes=SERVE,
)
DATABASE_UP = Level(
    name="postroom_database_up",
    meaning="Whether the database answers, as looked at once a second: 1 or 0.",
    unit="0 or 1",
    processes=SERVE,
    together="livemin",
)
TRANSACTIONS_RETRIED = Counts(
    name="postroom_transactions_retried_total",
    meaning="Transactions begun again, having lost to another: a deadlock, a serialization failure, a key just taken.",
    unit="attempts",
    processes=(*SERVE, *WORKER),
)

# --- The gateway ------------------------------------------------------------------------------------------------------

HTTP_SECONDS = Times(
    name="http_server_request_duration_seconds",
    meaning="How long requests took, by route and status: 499 where the client went first, `unmatched` for no route.",
    unit="seconds",
    processes=GATEWAY,
    labels={"http_request_method": OPEN, "http_route": OPEN, "http_response_status_code": OPEN},
)
HTTP_CONNECTIONS = Level(
    name="postroom_http_connections",
    meaning="Connections open, of --max-connections, as looked at once a second.",
    unit="connections",
    processes=GATEWAY,
    together="livesum",
)
CONNECTIONS_REFUSED = Counts(
    name="postroom_http_connections_refused_total",
    meaning="Connections refused because --max-connections were open.",
    unit="connections",
    processes=GATEWAY,
)
REQUESTS_REFUSED = Counts(
    name="postroom_http_requests_refused_total",
    meaning="Requests answered 429: for their number, or by the service, for that of its calls or passwords.",
    unit="requests",
    processes=GATEWAY,
)

# --- The worker -------------------------------------------------------------------------------------------------------

WORKER_STEPS = Counts(
    name="postroom_worker_steps_total",
    meaning="Steps taken: mailboxes that were due, moved on or left as they are; domains on the way to ready; what is"
    " in deleted domains, purged or handed to the mail platform; provisions confirmed where there is none; answers"
    " under idempotency keys forgotten.",
    unit="steps",
    processes=WORKER,
    labels={"kind": STEPS},
)
DOMAINS_LOOKED_UP = Counts(
    name="postroom_worker_domains_looked_up_total",
    meaning="Domains whose DNS records were looked up, by the domain's status after it.",
    unit="domains",
    processes=WORKER,
    labels={"status": OPEN},
)
WORKER_FAILURES = Counts(
    name="postroom_worker_failures_total",
    meaning="Steps that failed and are tried again later, and passes ended by a database that can't be reached.",
    unit="failures",
    processes=WORKER,
    labels={"kind": FAILURES},
)
WORKER_LAG = Level(
    name="postroom_worker_lag_seconds",
    meaning="How overdue the most overdue work is, a look-up or a step; 0 where nothing is due.",
    unit="seconds",
    processes=WORKER,
    together="livemax",
)
WORKER_RAN = Level(
    name="postroom_worker_last_run_timestamp_seconds",
    meaning="When the worker last came to the end of a pass well.",
    unit="seconds since 1970",
    processes=WORKER,
    together="livemax",
)

# --- Each of them -----------------------------------------------------------------------------------------------------

BUILD_INFO = Level(
    name="postroom_build_info",
    meaning="Always 1; the label says which version this is.",
    unit="1",
    processes=(*SERVE, *GATEWAY, *WORKER),
    labels={"version": (__version__,)},
    together="livemax",
)

METRICS: Sequence[Metric[Any]] = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
"""All of them, in the order above."""


def begin(process: str) -> None:
    """Have the metrics of a process, `serve`, `gateway` or `worker`, in its scrapes from now on."""
    import prometheus_client

    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the lines, and Prometheus asks for none
    for metric in METRICS:
        if process in metric.processes:
            metric.begin()
    BUILD_INFO.of(__version__).set(1)


@asynccontextmanager
async def sampling(levels: Iterable[tuple["Gauge", Callable[[], float]]]) -> AsyncIterator[None]:
    """Set levels to what their functions answer, once a second during the block.

    What changes with every call is looked at now and then, so that no call pays for it.
    """
    levels = tuple(levels)

    def sample() -> None:
        for gauge, look in levels:
            gauge.set(look())

    async def keep_sampling() -> None:
        while True:
            sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    sampler = asyncio.create_task(keep_sampling())
    try:
        yield
    finally:
        sampler.cancel()
        sample()


def markdown_table() -> str:
    """The metrics as the table of docs/metrics.md."""
    rows = ["| metric | type | labels | unit | process | what it is |", "|---|---|---|---|---|---|"]
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "none"
        processes = ", ".join(f"`{process}`" for process in each.processes)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.unit} | {processes} | {each.meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
