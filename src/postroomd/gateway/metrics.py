"""Request metrics: duration by method, route and status, labelled by OpenTelemetry's conventions."""

from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import hdrs

from postroomd.observability.metrics import HTTP_SECONDS

if TYPE_CHECKING:
    from prometheus_client import Histogram

METHODS = frozenset({*hdrs.METH_ALL})
OTHER_METHOD = "_OTHER"  # OpenTelemetry's label value for unknown methods
UNMATCHED = "unmatched"  # requests without a route; cannot collide with a template, which starts with a slash


class HttpMetrics:
    """Duration histograms of requests. Cardinality is bounded by routes, known methods and statuses."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], Histogram] = {}

    def register(self, method: str, route: str) -> None:
        """Expose a route at 0 before its first request."""
        self._seconds[method, route, HTTPStatus.OK] = _histogram(method, route, HTTPStatus.OK)

    def observe(self, method: str, route: str, status: int, started: float) -> None:
        """Record a request that started at `started`, a `perf_counter` value, and ends now."""
        key = (method, route, status)
        seconds = self._seconds.get(key)
        if seconds is None:
            seconds = _histogram(method, route, status)
            if method in METHODS:  # an unknown method is the client's text: caching it would grow without bound
                self._seconds[key] = seconds
        seconds.observe(perf_counter() - started)


def count_unparsed(status: int) -> None:
    """Count a request that could not be parsed as HTTP."""
    _histogram(OTHER_METHOD, "", status).observe(0)


def _histogram(method: str, route: str, status: int) -> "Histogram":
    return HTTP_SECONDS.labels(method if method in METHODS else OTHER_METHOD, route or UNMATCHED, str(int(status)))
