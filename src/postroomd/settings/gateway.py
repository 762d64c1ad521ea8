"""The settings of the REST gateway: limits of requests and connections."""

from postroomd.settings.base import GATEWAY, SettingsGroup, setting
from postroomd.settings.types import Networks, Origins


class GatewaySettings(SettingsGroup):
    """The settings of the REST gateway: limits of requests and connections."""

    max_body_bytes: int = setting(
        1_048_576,
        GATEWAY,
        "Maximum body of a REST request, in bytes; larger ones are rejected.",
        ge=1_024,
        le=4_194_304,
    )
    max_requests: int = setting(
        128,
        GATEWAY,
        "Maximum concurrent REST reads per gateway, and maximum concurrent changes; more are rejected.",
        ge=1,
        le=100_000,
    )
    max_connections: int = setting(
        1_000,
        GATEWAY,
        "Maximum open connections per gateway; beyond it, connections that wait for their client are closed first.",
        ge=1,
        le=1_000_000,
    )
    max_connections_per_address: int = setting(
        0,
        GATEWAY,
        "Maximum open connections per client address (IPv6: per /64 network), trusted proxies excepted; 0: no limit.",
        ge=0,
        le=1_000_000,
    )
    trusted_proxies: Networks = setting(
        "", GATEWAY, "Networks of proxies whose `X-Forwarded-For` is trusted, such as `10.0.0.0/8`, comma-separated."
    )
    cors_origins: Origins = setting(
        "",
        GATEWAY,
        "Origins of web pages that may call the API, such as `https://app.example.org`, comma-separated.",
    )
    header_timeout_seconds: float = setting(
        10.0, GATEWAY, "Maximum time for the headers of a request to arrive, in seconds.", gt=0, le=3_600
    )
    body_timeout_seconds: float = setting(
        30.0, GATEWAY, "Maximum time for the body of a request to arrive, in seconds.", gt=0, le=3_600
    )
    min_body_rate: int = setting(
        1_024,
        GATEWAY,
        "Minimum rate of a body after its first 5 seconds, in bytes per second; slower requests are rejected.",
        ge=1,
        le=1_000_000,
    )
    write_timeout_seconds: float = setting(
        30.0, GATEWAY, "Maximum time for which a client may read nothing of its response, in seconds.", gt=0, le=3_600
    )
    idle_timeout_seconds: float = setting(
        75.0,
        GATEWAY,
        "Time after which an idle connection is closed, in seconds; longer than a proxy in front keeps one.",
        gt=0,
        le=86_400,
    )
    call_timeout_seconds: float = setting(
        30.0, GATEWAY, "Deadline of the gateway's calls to the service, in seconds.", gt=0, le=3_600
    )
