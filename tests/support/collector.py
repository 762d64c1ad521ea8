"""An OpenTelemetry collector on loopback: it receives traces by OTLP over gRPC, and keeps them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived. Ids are in hexadecimal; `parent_id` is empty for the first span of a trace."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str | int]
    failed: bool


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """The spans received so far, and the requests that carried them."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def endpoint(self) -> str:
        """The URL to send traces to."""
        return f"http://{self.address}"

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans, in order of arrival."""
        return [
            ReceivedSpan(
                service=str(_values(resource.resource.attributes).get("service.name", "")),
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                attributes=_values(span.attributes),
                failed=span.status.code == span.status.STATUS_CODE_ERROR,
            )
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def octets(self) -> bytes:
        """Everything that was received."""
        return b"".join(request.SerializeToString() for request in self.requests)


def _values(attributes: Sequence[KeyValue]) -> dict[str, str | int]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector in threads of this process."""
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(None).wait()
