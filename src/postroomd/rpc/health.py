"""The health service, which also explains why a service is not serving."""

from typing import Any

from grpc_health.v1 import health, health_pb2

NOT_SERVING_REASON = "x-not-serving-reason"
"""Trailing metadata of a health check that is not SERVING: the reason, in ASCII, without secrets."""


class ExplainingHealthServicer(health.aio.HealthServicer):  # type: ignore[misc, unused-ignore]
    """The standard health service (grpc.health.v1), with a reason for every status but SERVING.

    `calls_refused`: tenants' calls are refused for that reason. Otherwise each fails or succeeds by itself, as while
    the database is unavailable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reason = "the service is starting"
        self.calls_refused = False

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """Return the status of a service."""
        response = await super().Check(request, context)
        if response.status != health_pb2.HealthCheckResponse.SERVING and self.reason:
            context.set_trailing_metadata(((NOT_SERVING_REASON, self.reason),))
        return response  # type: ignore[no-any-return, unused-ignore]
