"""Metrics of RPCs: completed calls by status code, and their duration."""

from time import perf_counter
from typing import TYPE_CHECKING

from google.protobuf.descriptor import MethodDescriptor

from postroomd.observability.metrics import GRPC_HANDLED, GRPC_SECONDS

if TYPE_CHECKING:
    from prometheus_client import Counter


class RpcMetrics:
    """The metrics of one RPC. Its labels are resolved once, not with every call."""

    def __init__(self, method: MethodDescriptor) -> None:
        self._labels = (method.containing_service.full_name, method.name)
        self._seconds = GRPC_SECONDS.labels(*self._labels)
        self._codes: dict[str, Counter] = {}
        self._counter("OK")

    def completed(self, code: str, started: float) -> None:
        """Count a call that ends now, and its duration since `started` (of `perf_counter`)."""
        self._counter(code).inc()
        self._seconds.observe(perf_counter() - started)

    def rejected(self, code: str) -> None:
        """Count a call that was not admitted. It has no duration."""
        self._counter(code).inc()

    def _counter(self, code: str) -> "Counter":
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = GRPC_HANDLED.labels(*self._labels, code)
        return counter
