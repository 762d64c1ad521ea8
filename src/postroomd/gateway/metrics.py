"""What is measured of requests: how long they took, by method, route and status, as OpenTelemetry names these."""

from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import hdrs

from postroomd.observability.metrics import HTTP_SECONDS

if TYPE_CHECKING:
    from prometheus_client import Histogram

METHODS = frozenset({*hdrs.METH_ALL})
OTHER_METHOD = "_OTHER"  # OpenTelemetry's, for whatever else a client makes up
UNMATCHED = "unmatched"  # no route: templates begin with a slash


class Measured:
    """The metrics of requests. There are as many as there are routes, methods and statuses that have occurred."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], Histogram] = {}

    def expect(self, method: str, route: str) -> None:
        """Have a route in scrapes before its first request."""
        self._seconds[method, route, HTTPStatus.OK] = _histogram(method, route, HTTPStatus.OK)

    def ended(self, method: str, route: str, status: int, started: float) -> None:
        """Measure a request that began at an instant of `perf_counter`, and ends now."""
        key = (method, route, status)
        seconds = self._seconds.get(key)
        if seconds is None:
            seconds = _histogram(method, route, status)
            if method in METHODS:  # or clients could fill the memory with names
                self._seconds[key] = seconds
        seconds.observe(perf_counter() - started)


def measure_unreadable(status: int) -> None:
    """Count a request that could not be read as one."""
    _histogram(OTHER_METHOD, "", status).observe(0)


def _histogram(method: str, route: str, status: int) -> "Histogram":
    return HTTP_SECONDS.labels(method if method in METHODS else OTHER_METHOD, route or UNMATCHED, str(int(status)))
