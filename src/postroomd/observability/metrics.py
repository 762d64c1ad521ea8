"""Every metric of Postroom: name, type, help text, unit, labels, and the processes that expose it.

gRPC metrics have the names of the client libraries' interceptors, HTTP metrics those of OpenTelemetry. No label value
holds tenant data or text sent by a caller, so that the number of series is bounded.

`python -m postroomd.observability.metrics` prints the table in docs/metrics.md.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from postroomd import __version__
from postroomd.observability.metric_types import DYNAMIC, Counter, Gauge, Histogram, Metric
from postroomd.observability.steps import StepKind

SAMPLE_SECONDS = 1.0

HASH_BUCKETS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds: a password hash at the default cost takes about 0.03 s."""

SERVE, GATEWAY, WORKER = ("serve",), ("gateway",), ("worker",)
CALL_KINDS = ("reads", "changes")
REFUSED_KINDS = (*CALL_KINDS, "key_lookups", "searches", "pages", "rate_limit")
_NO_STEPS = {StepKind.CLOCK, StepKind.POLL, StepKind.DNS_LOOKUP, StepKind.DKIM_EXPORT}  # of due work
STEPS = tuple(kind for kind in StepKind if kind not in _NO_STEPS)
FAULT_KINDS = ("damaged", "file_replaced", "log_replaced", "disk_full", "io_error")
FAILURES = (*StepKind, "database")
LEAPS = ("forward", "backward", "database")  # of domain.clock_leaps, which the gateway does not import
CERTIFICATE_PURPOSES = ("grpc", "http", "grpc-client")

# --- The service ------------------------------------------------------------------------------------------------------

GRPC_HANDLED = Counter(
    name="grpc_server_handled_total",
    help="Completed calls by status code, rejected calls included.",
    unit="calls",
    processes=SERVE,
    label_values={"grpc_service": DYNAMIC, "grpc_method": DYNAMIC, "grpc_code": DYNAMIC},
)
GRPC_SECONDS = Histogram(
    name="grpc_server_handling_seconds",
    help="Duration of calls from admission to response, whatever their status. Rejected calls are not observed.",
    unit="seconds",
    processes=SERVE,
    label_values={"grpc_service": DYNAMIC, "grpc_method": DYNAMIC},
)
CALLS_IN_PROGRESS = Gauge(
    name="postroom_calls_in_progress",
    help="Calls in progress, at most --max-calls of each kind; sampled once a second.",
    unit="calls",
    processes=SERVE,
    label_values={"kind": CALL_KINDS},
    multiprocess_mode="livesum",
)
CALLS_REFUSED = Counter(
    name="postroom_calls_refused_total",
    help="Rejected calls: `reads` and `changes` beyond --max-calls, lookups of keys that were not verified before,"
    " expensive searches, long pages, and calls beyond a rate limit.",
    unit="calls",
    processes=SERVE,
    label_values={"kind": REFUSED_KINDS},
)
CALLS_UNAUTHENTICATED = Counter(
    name="postroom_calls_unauthenticated_total",
    help="Calls that failed before a key was verified, as without a valid one; one a second is logged.",
    unit="calls",
    processes=SERVE,
)
GRPC_CONNECTIONS = Gauge(
    name="postroom_grpc_connections",
    help="Open gRPC connections, at most --max-grpc-connections on each address; sampled once a second. Linux only.",
    unit="connections",
    processes=SERVE,
    multiprocess_mode="livesum",
)
GRPC_CONNECTIONS_PAUSED = Counter(
    name="postroom_grpc_connections_paused_total",
    help="Pauses of gRPC connections that sent far more than their calls explain, such as floods of pings. Linux only.",
    unit="pauses",
    processes=SERVE,
)
GRPC_CONNECTIONS_EVICTED = Counter(
    name="postroom_grpc_connections_evicted_total",
    help="gRPC connections without calls closed to accept others near --max-grpc-connections. Linux only.",
    unit="connections",
    processes=SERVE,
)
GRPC_NETWORKS_LIMITED = Counter(
    name="postroom_grpc_networks_limited_total",
    help="Times that new gRPC connections of an address were delayed: it opened too many within 10 minutes of a flood."
    " Linux only.",
    unit="delays",
    processes=SERVE,
)
PASSWORD_SECONDS = Histogram(
    name="postroom_password_hash_seconds",
    help="Duration of one password hash, without the time in the queue.",
    unit="seconds",
    processes=SERVE,
    buckets=HASH_BUCKETS,
)
PASSWORDS_WAITING = Gauge(
    name="postroom_passwords_waiting",
    help="Passwords of the calls that are in the hashing queue or being hashed.",
    unit="passwords",
    processes=SERVE,
    multiprocess_mode="livesum",
)
PASSWORDS_REFUSED = Counter(
    name="postroom_passwords_refused_total",
    help="Passwords rejected because their expected time in the hashing queue exceeded --hash-wait-seconds.",
    unit="passwords",
    processes=SERVE,
)
DATABASE_UP = Gauge(
    name="postroom_database_up",
    help="1 if the database responds, 0 if it does not; checked once a second.",
    unit="0 or 1",
    processes=SERVE,
    multiprocess_mode="livemin",
)
TRANSACTIONS_RETRIED = Counter(
    name="postroom_transactions_retried_total",
    help="Transaction retries after a deadlock, a serialization failure or a concurrent insert of the same key.",
    unit="attempts",
    processes=(*SERVE, *WORKER),
)

DATABASE_FAULTS = Counter(
    name="postroom_database_faults_total",
    help="Faults of SQLite's files by kind: damaged, deleted or replaced while in use (file or write-ahead log), full"
    " disk, failed input or output. The first three last until the process is restarted. 0 on PostgreSQL.",
    unit="faults",
    processes=(*SERVE, *WORKER),
    label_values={"kind": FAULT_KINDS},
)
SQLITE_LOG_BYTES = Gauge(
    name="postroom_sqlite_wal_bytes",
    help="Size of SQLite's write-ahead log. The worker waits beyond 96 MiB, except while a backup or another long read"
    " transaction keeps the log from being truncated. 0 on PostgreSQL.",
    unit="bytes",
    processes=(*SERVE, *WORKER),
    multiprocess_mode="livemax",
)

# --- The gateway ------------------------------------------------------------------------------------------------------

HTTP_SECONDS = Histogram(
    name="http_server_request_duration_seconds",
    help="Duration of requests by route and status: 499 if the client disconnected, `unmatched` if no route matches.",
    unit="seconds",
    processes=GATEWAY,
    label_values={"http_request_method": DYNAMIC, "http_route": DYNAMIC, "http_response_status_code": DYNAMIC},
)
HTTP_CONNECTIONS = Gauge(
    name="postroom_http_connections",
    help="Open connections, at most --max-connections; sampled once a second.",
    unit="connections",
    processes=GATEWAY,
    multiprocess_mode="livesum",
)
CONNECTIONS_REFUSED = Counter(
    name="postroom_http_connections_refused_total",
    help="Connections rejected because of --max-connections or --max-connections-per-address.",
    unit="connections",
    processes=GATEWAY,
)
CONNECTIONS_CLOSED = Counter(
    name="postroom_http_connections_closed_total",
    help="Connections closed because the client was too slow, or, `evicted`, to accept others at --max-connections.",
    unit="connections",
    processes=GATEWAY,
    label_values={"reason": ("header_timeout", "write_timeout", "output_limit", "evicted")},
)
REQUESTS_REFUSED = Counter(
    name="postroom_http_requests_refused_total",
    help="Requests rejected with status 429, by the gateway's --max-requests or by a limit of the service.",
    unit="requests",
    processes=GATEWAY,
)

# --- The worker -------------------------------------------------------------------------------------------------------

WORKER_STEPS = Counter(
    name="postroom_worker_steps_total",
    help="Completed steps by kind: due mailboxes processed; domains, aliases and forwardings provisioned; mailboxes"
    " reached by a change of their domain's status; deleted domains and their mailboxes purged, or handed to the mail"
    " platform; sessions on the mail server ended; provisions confirmed where there is no mail platform; expired"
    " idempotent responses deleted.",
    unit="steps",
    processes=WORKER,
    label_values={"kind": STEPS},
)
DOMAINS_LOOKED_UP = Counter(
    name="postroom_worker_domains_looked_up_total",
    help="Domains whose DNS records were looked up, by the resulting status of the domain.",
    unit="domains",
    processes=WORKER,
    label_values={"status": DYNAMIC},
)
WORKER_FAILURES = Counter(
    name="postroom_worker_failures_total",
    help="Failed steps by kind, each retried with backoff, and passes aborted because the database was unavailable.",
    unit="failures",
    processes=WORKER,
    label_values={"kind": FAILURES},
)
WORKER_LAG = Gauge(
    name="postroom_worker_lag_seconds",
    help="How long the oldest due DNS lookup or step has been overdue; 0 if nothing is due.",
    unit="seconds",
    processes=WORKER,
    multiprocess_mode="livemax",
)
WORKER_LAST_RUN = Gauge(
    name="postroom_worker_last_run_timestamp_seconds",
    help="End of the last successful pass of the worker.",
    unit="seconds since the Unix epoch",
    processes=WORKER,
    multiprocess_mode="livemax",
)

# --- The clock --------------------------------------------------------------------------------------------------------

CLOCK_LEAPS = Counter(
    name="postroom_clock_leaps_total",
    help="Leaps of the system's clock by what contradicts it: the time since boot, a time that a worker has trusted, or"
    " the database server's clock.",
    unit="leaps",
    processes=(*SERVE, *WORKER),
    label_values={"kind": LEAPS},
)
CLOCK_LEAP = Gauge(
    name="postroom_clock_leap",
    help="1 while the system's clock is not trusted: the worker takes no step, and the service counts on from the last"
    " trusted time. 0 otherwise.",
    unit="0 or 1",
    processes=(*SERVE, *WORKER),
    multiprocess_mode="livemax",
)

# --- Every process ----------------------------------------------------------------------------------------------------

CERTIFICATE_RELOADS = Counter(
    name="postroom_certificate_reloads_total",
    help="Reloads of TLS certificates after a change of their files; a failed one keeps the previous certificates.",
    unit="reloads",
    processes=(*SERVE, *GATEWAY),
    label_values={"purpose": CERTIFICATE_PURPOSES, "outcome": ("loaded", "failed")},
)
CERTIFICATE_EXPIRY = Gauge(
    name="postroom_certificate_expiry_timestamp_seconds",
    help="End of the validity of the certificate in use; no series without TLS.",
    unit="seconds since 1970",
    processes=(*SERVE, *GATEWAY),
    label_values={"purpose": DYNAMIC},
    multiprocess_mode="livemin",
)
BUILD_INFO = Gauge(
    name="postroom_build_info",
    help="Always 1; the label is the version of Postroom.",
    unit="1",
    processes=(*SERVE, *GATEWAY, *WORKER),
    label_values={"version": (__version__,)},
    multiprocess_mode="livemax",
)

METRICS: Sequence[Metric[Any]] = (
    GRPC_HANDLED,
    GRPC_SECONDS,
    CALLS_IN_PROGRESS,
    CALLS_REFUSED,
    CALLS_UNAUTHENTICATED,
    GRPC_CONNECTIONS,
    GRPC_CONNECTIONS_PAUSED,
    GRPC_CONNECTIONS_EVICTED,
    GRPC_NETWORKS_LIMITED,
    PASSWORD_SECONDS,
    PASSWORDS_WAITING,
    PASSWORDS_REFUSED,
    DATABASE_UP,
    TRANSACTIONS_RETRIED,
    DATABASE_FAULTS,
    SQLITE_LOG_BYTES,
    HTTP_SECONDS,
    HTTP_CONNECTIONS,
    CONNECTIONS_REFUSED,
    CONNECTIONS_CLOSED,
    REQUESTS_REFUSED,
    WORKER_STEPS,
    DOMAINS_LOOKED_UP,
    WORKER_FAILURES,
    WORKER_LAG,
    WORKER_LAST_RUN,
    CLOCK_LEAPS,
    CLOCK_LEAP,
    CERTIFICATE_RELOADS,
    CERTIFICATE_EXPIRY,
    BUILD_INFO,
)
"""All metrics, in the order of the table in docs/metrics.md."""


def register_metrics(process: str) -> None:
    """Register the metrics of a process: `serve`, `gateway` or `worker`."""
    import prometheus_client

    # `_created` series would double the exposition; Prometheus does not use them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    for metric in METRICS:
        if process in metric.processes:
            metric.register()
    BUILD_INFO.labels(__version__).set(1)


class Settable(Protocol):
    """A gauge, as far as sampling needs it."""

    def set(self, value: float) -> None:
        """Set the value."""


@asynccontextmanager
async def sampling(gauges: Iterable[tuple[Settable, Callable[[], float]]]) -> AsyncIterator[None]:
    """Set each gauge to the result of its function once a second during the block, and once more at its end.

    For values that change with every call: sampling keeps the cost out of the call.
    """
    gauges = tuple(gauges)

    def sample() -> None:
        for gauge, read in gauges:
            gauge.set(read())

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
    """Return the table of metrics in docs/metrics.md."""
    rows = ["| metric | type | labels | unit | processes | description |", "|---|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.label_values) or "none"
        processes = ", ".join(f"`{process}`" for process in metric.processes)
        rows.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.unit} | {processes} | {metric.help} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown_table())
