"""What is counted of the calls of one RPC: what they ended with, and how long that took."""

from time import perf_counter
from typing import TYPE_CHECKING

from google.protobuf.descriptor import MethodDescriptor

from postroomd.observability.metrics import GRPC_HANDLED, GRPC_SECONDS

if TYPE_CHECKING:
    from prometheus_client import Counter


class Handled:
    """The metrics of one RPC, looked up once: a call costs two of them."""

    def __init__(self, method: MethodDescriptor) -> None:
        self._labels = (method.containing_service.full_name, method.name)
        self._seconds = GRPC_SECONDS.of(*self._labels)
        self._codes: dict[str, Counter] = {}
        self._ending("OK")

    def ended(self, code: str, started: float) -> None:
        """Count a call that was let in at an instant of `perf_counter`, and ends now."""
        self._ending(code).inc()
        self._seconds.observe(perf_counter() - started)

    def refused(self, code: str) -> None:
        """Count a call that was not let in."""
        self._ending(code).inc()

    def _ending(self, code: str) -> "Counter":
        counter = self._codes.get(code)
        if counter is None:
            counter = self._codes[code] = GRPC_HANDLED.of(*self._labels, code)
        return counter
