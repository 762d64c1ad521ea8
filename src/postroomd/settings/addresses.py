"""The addresses that the processes listen on and call, and the limits of their connections."""

from pydantic import SecretStr

from postroomd.settings.base import (
    CLIENT,
    GATEWAY,
    NEW_KEY,
    OPERATOR_CLIENT,
    PROCESSES,
    SERVICE,
    TENANT_CLIENT,
    SettingsGroup,
    setting,
)
from postroomd.settings.types import Address, Endpoint


class AddressSettings(SettingsGroup):
    """The addresses that the processes listen on and call, and the limits of their connections."""

    grpc_address: Address = setting(
        "127.0.0.1:50051",
        ("up", "serve", "gateway", *TENANT_CLIENT),
        "Address of the gRPC service, `HOST:PORT`; port 0 selects a free port.",
    )
    grpc_reflection: bool = setting(
        False, SERVICE, "`true` enables server reflection, by which grpcurl and similar clients learn the contract."
    )
    insecure: bool = setting(
        False,
        ("up", "serve", "gateway", *CLIENT),
        "`true` allows addresses that other machines reach without TLS, behind a proxy that speaks it.",
    )
    max_streams: int = setting(
        100,
        ("up", "serve", "gateway"),
        "Maximum concurrent calls per gRPC connection; a gateway opens as many connections as it needs.",
        ge=1,
        le=10_000,
    )
    max_grpc_connections: int = setting(
        1_000,
        SERVICE,
        "Maximum open gRPC connections per process and address; near it, the longest idle ones are closed, and all"
        " without calls after 2 minutes.",
        ge=16,
        le=1_000_000,
    )
    gateway_secret: SecretStr | None = setting(
        None,
        ("up", "serve", "gateway"),
        "Secret by which the service recognizes gateways and trusts the client addresses they report; `up` makes one.",
        min_length=16,
    )
    admin_address: Address | None = setting(
        None,
        (*SERVICE, *OPERATOR_CLIENT),
        "Address of the admin service, `HOST:PORT`, which can access every tenant; disabled if not set.",
    )
    http_address: Address = setting(
        "127.0.0.1:8080",
        (*GATEWAY, *NEW_KEY, "doctor"),
        "Address of the REST gateway, `HOST:PORT`; port 0 selects a free port.",
    )
    autoconfig_address: Address | None = setting(
        None,
        GATEWAY,
        "Address of the documents that mail clients configure themselves from, `HOST:PORT`; disabled if not set.",
    )
    metrics_address: Address | None = setting(
        None, PROCESSES, "Address of the Prometheus metrics, `HOST:PORT`; keep it internal. Disabled if not set."
    )
    otlp_endpoint: Endpoint | None = setting(
        None,
        ("up", "serve", "gateway"),
        "URL of an OpenTelemetry collector, such as `http://127.0.0.1:4317`, which receives traces by OTLP over gRPC."
        " Disabled if neither this nor `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Needs `postroom[otel]`.",
    )
    processes: int = setting(
        1, ("serve", "gateway"), "Number of processes that share the address. `serve` on SQLite allows 1.", ge=1, le=256
    )
    drain_seconds: float = setting(
        10.0, PROCESSES, "Maximum time for requests in progress to finish on shutdown, in seconds.", ge=0, le=3_600
    )
