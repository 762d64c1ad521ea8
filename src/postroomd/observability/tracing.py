"""Traces: spans of requests, calls and statements, exported over OTLP and gRPC.

It is imported only where tracing is enabled: without the extra `otel`, the import fails. Spans are passed as arguments,
never by OpenTelemetry's current context. Attributes follow its semantic conventions, and hold no value that a caller
sent except the request id: no path, query, body, parameter of a statement, or text of an exception.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import Token
from functools import lru_cache
from threading import Thread
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as OtelTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from postroomd.observability.logs import LOGGED_TRACE

Attributes = Mapping[str, str | int]
Headers = Iterable[tuple[str, str | bytes]]
"""Names in lower case, and values."""

SHUTDOWN_SECONDS = 5.0
"""Maximum time for the spans of the last calls to be exported on shutdown."""
MAX_TRACESTATE_LENGTH = 512  # W3C Trace Context, section 3.3.1.5; longer ones would not fit in gRPC's metadata
MAX_QUERY_LENGTH = 4_096

_CONTEXT_HEADERS = ("traceparent", "tracestate")
_PROPAGATOR = TraceContextTextMapPropagator()
_SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Status codes that are a failure of the server itself, by the conventions for RPC."""
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+\"?(\w+)")


class Span:
    """One operation of a trace. As a context manager, it ends with the block, and fails with its exception."""

    __slots__ = ("_otel", "_token", "_tracer")

    def __init__(self, tracer: OtelTracer, otel: OtelSpan) -> None:
        self._tracer = tracer
        self._otel = otel
        self._token: Token[Mapping[str, str]] | None = None

    def client_span(self, name: str, attributes: Attributes) -> "Span":
        """Start the span of a request to a server, such as the database, below this one."""
        parent = set_span_in_context(self._otel, Context())
        return Span(self._tracer, self._tracer.start_span(name, parent, SpanKind.CLIENT, attributes))

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The W3C headers that make the spans of another process children of this one."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self._otel, Context()))
        return tuple(carrier.items())

    @property
    def log_fields(self) -> Mapping[str, str]:
        """The fields of log lines that belong to this span."""
        context = self._otel.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def update(self, attributes: Attributes, name: str | None = None) -> None:
        """Set attributes, and the name if given."""
        self._otel.set_attributes(attributes)
        if name is not None:
            self._otel.update_name(name)

    def fail(self, error_type: str) -> None:
        """Mark the operation as failed. `error_type` is a status code or the name of a class, never a text."""
        self._otel.set_attribute("error.type", error_type)
        self._otel.set_status(Status(StatusCode.ERROR))

    def complete_rpc(self, code: str) -> None:
        """Set the status code of an RPC; it fails if that is a fault of the service."""
        self._otel.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_FAULTS:
            self.fail(code)

    def complete_http(self, status: int) -> None:
        """Set the status of an HTTP response; it fails from 500 up."""
        self._otel.set_attribute("http.response.status_code", status)
        if status >= 500:
            self.fail(str(status))

    def end(self) -> None:
        """End the span."""
        self._otel.end()

    def begin_logging(self) -> None:
        """Add the ids of trace and span to the log lines of this task until the span ends as a context manager."""
        self._token = LOGGED_TRACE.set(self.log_fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        if self._token is not None:
            LOGGED_TRACE.reset(self._token)
        self._otel.end()


class Tracer:
    """Starts the spans of a process."""

    def __init__(self, otel: OtelTracer) -> None:
        self._otel = otel

    def server_span(self, name: str, headers: Headers, attributes: Attributes) -> Span:
        """Start the span of a received request, below the caller's span if the headers name it.

        A malformed or repeated `traceparent` begins a trace of its own, as W3C Trace Context requires.
        """
        return Span(self._otel, self._otel.start_span(name, parent_of(headers), SpanKind.SERVER, attributes))


def parent_of(headers: Headers) -> Context:
    """Return the context that W3C headers carry; an empty one if they carry none."""
    carrier: dict[str, str] = {}
    for name, value in headers:
        if name in _CONTEXT_HEADERS and isinstance(value, str):
            if name == "traceparent" and name in carrier:
                return Context()
            carrier[name] = f"{carrier[name]},{value}" if name in carrier else value
    if len(carrier.get("tracestate", "")) > MAX_TRACESTATE_LENGTH:
        del carrier["tracestate"]
    return _PROPAGATOR.extract(carrier, Context())


@lru_cache(maxsize=1_024)
def statement_attributes(engine: str, sql: str) -> tuple[str, Attributes]:
    """Return name and attributes of a statement's span. `sql` has placeholders for its values."""
    words = sql.split(maxsplit=1)
    operation = words[0].upper() if words else "?"
    operation = "SELECT" if operation == "WITH" else operation
    table = _TABLE.search(sql)
    attributes = {"db.system.name": engine, "db.operation.name": operation, "db.query.text": sql[:MAX_QUERY_LENGTH]}
    if table is None:
        return operation, attributes
    return f"{operation} {table[1]}", {**attributes, "db.collection.name": table[1]}


@asynccontextmanager
async def open_tracer(process: str, version: str, endpoint: str | None) -> AsyncIterator[Tracer]:
    """Export the spans of this process to an OTLP endpoint during the block.

    `endpoint` is a URL; None: that of OpenTelemetry's own variables, which also set the sampler, headers, certificates
    and resource attributes. Raises ValueError for one of those that is invalid.
    """
    defaults = {"service.name": f"postroom-{process}", "service.version": version}
    resource = Resource.create(defaults).merge(OTELResourceDetector().detect())  # the variables take precedence
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    try:
        yield Tracer(provider.get_tracer("postroomd", version))
    finally:
        # As a daemon: a collector that does not answer delays the exit by a few seconds at most.
        thread = Thread(target=provider.shutdown, name="otel-shutdown", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, SHUTDOWN_SECONDS)
