"""Cross-origin resource sharing (Fetch standard): preflight responses and headers for the configured origins."""

from collections.abc import Collection, Iterable
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict

from postroomd.gateway.responses import HEADERS

PREFLIGHT_SECONDS = 7_200  # browsers cache a preflight no longer than this
REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Auth-Token, X-Consistency, X-Request-Id"
)
RESPONSE_HEADERS = (
    "ETag, Idempotency-Replayed, Retry-After, X-Ratelimit-Limit, X-Ratelimit-Remaining, X-Ratelimit-Reset, X-Request-Id"
)


class Cors:
    """Origins whose pages may call the API. Credentials are header values, never cookies."""

    def __init__(self, origins: Collection[str]) -> None:
        """Take origins as browsers send them, such as `https://app.example.org`. None: every method does nothing."""
        self._origins = frozenset(origins)

    def preflight(self, request: web.BaseRequest, methods: Iterable[str]) -> web.Response | None:
        """Return the response to a preflight request for a path that supports `methods`; None for other requests."""
        is_preflight = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        if not is_preflight or self._allowed_origin(request) is None:
            return None
        response = web.Response(status=HTTPStatus.NO_CONTENT, headers=HEADERS)
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ", ".join(methods)
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = REQUEST_HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_SECONDS)
        return response

    def add_headers(self, request: web.BaseRequest, headers: CIMultiDict[str]) -> None:
        """Add the CORS headers of any response. `Vary` is added for every origin, since the response depends on it."""
        if not self._origins:
            return
        headers[hdrs.VARY] = "Origin"
        origin = self._allowed_origin(request)
        if origin is not None:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = RESPONSE_HEADERS

    def _allowed_origin(self, request: web.BaseRequest) -> str | None:
        origins = request.headers.getall(hdrs.ORIGIN, ()) if self._origins else ()
        return origins[0] if len(origins) == 1 and origins[0] in self._origins else None
