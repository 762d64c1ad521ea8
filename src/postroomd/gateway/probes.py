"""Health endpoints of the gateway: liveness and readiness."""

from http import HTTPStatus
from typing import Any

import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped, unused-ignore]

from postroomd.gateway.channel import ServiceChannel
from postroomd.gateway.endpoints import IncomingRequest
from postroomd.gateway.json_codec import to_bytes
from postroomd.gateway.responses import json_response

PROBE_TIMEOUT_SECONDS = 2.0
RECONNECT_SECONDS = 1.5  # longer than the channel backs off: a second and a fifth
NOT_SERVING_REASON = "x-not-serving-reason"  # metadata of the service's response, without secrets


class Liveness:
    """`/healthz`: 200 as long as the process runs, whatever the state of the service."""

    rpc = ""
    is_probe = True

    def connect(self, channel: ServiceChannel) -> None:
        """Do nothing: liveness does not depend on the service."""

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Return 200."""
        return json_response(HTTPStatus.OK, to_bytes({"status": "ok"}))


class Readiness:
    """`/readyz`: 200 if the service reports SERVING, else 503 with the reason."""

    rpc = "/grpc.health.v1.Health/Check"
    is_probe = True

    def __init__(self) -> None:
        self._check: Any = None

    def connect(self, channel: ServiceChannel) -> None:
        """Create the stub of the health RPC."""
        self._check = channel.unary_unary(
            self.rpc,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Call the health RPC of the service, with a deadline of PROBE_TIMEOUT_SECONDS.

        A connection that backs off fails every call, although the service may have returned: each gateway process backs
        off by itself, so that the probes of several would disagree. Such a probe waits for the next attempt.
        """
        call = self._check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_SECONDS)
        try:
            health = await call
        except grpc.aio.AioRpcError as error:
            failure = f"the health check of the service failed: {error.code().name}"
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                return _not_serving(failure)
            call = self._check(health_pb2.HealthCheckRequest(), timeout=RECONNECT_SECONDS, wait_for_ready=True)
            try:
                health = await call
            except grpc.aio.AioRpcError:
                return _not_serving(failure)
        if health.status != health_pb2.HealthCheckResponse.SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
            reason = {str(key): value for key, value in await call.trailing_metadata() or ()}.get(NOT_SERVING_REASON)
            return _not_serving(f"the service reports {name}" + (f": {reason}" if reason else ""))
        return json_response(HTTPStatus.OK, to_bytes({"status": "serving"}))


def _not_serving(reason: str) -> web.Response:
    return json_response(HTTPStatus.SERVICE_UNAVAILABLE, to_bytes({"status": "not_serving", "reason": reason}))
