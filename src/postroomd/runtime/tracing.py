"""Whether a process is traced: by its settings, or by OpenTelemetry's environment variables."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from postroomd import __version__
from postroomd.runtime.errors import FatalError
from postroomd.settings import Settings

if TYPE_CHECKING:
    from postroomd.observability.tracing import Tracer

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def is_traced(settings: Settings, environment: Mapping[str, str]) -> bool:
    """Whether an endpoint is set, and the environment does not switch tracing off. Raises FatalError for a fault."""
    named = (
        ["--otlp-endpoint"]
        if settings.otlp_endpoint
        else [each for each in ENDPOINT_VARIABLES if environment.get(each)]
    )
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if not named or disabled or exporter == "none":
        return False
    if exporter != "otlp":
        raise FatalError(f"OTEL_TRACES_EXPORTER: {exporter} is not supported: set otlp, or none for no traces")
    protocol = next(filter(None, map(environment.get, PROTOCOL_VARIABLES)), "grpc")
    if protocol != "grpc":
        raise FatalError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol} is not supported: set grpc, and the collector's gRPC port"
        )
    return True


@asynccontextmanager
async def tracing(settings: Settings, process: str) -> AsyncIterator["Tracer | None"]:
    """Export the spans of a process during the block; yields None where tracing is off. Raises FatalError."""
    if not is_traced(settings, os.environ):
        yield None
        return
    try:
        from postroomd.observability.tracing import open_tracer
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise FatalError(
            "--otlp-endpoint or OTEL_EXPORTER_OTLP_ENDPOINT: OpenTelemetry is not installed: run"
            " `pip install 'postroom[otel]'`, or unset them"
        ) from error
    async with open_tracer(process, __version__, settings.otlp_endpoint) as tracer:
        yield tracer
