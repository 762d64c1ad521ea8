"""Channels to Postroom: the service config, TLS, keepalive, the secret key, and idempotency keys.

The service config retries a call that failed as UNAVAILABLE or was CANCELLED by the service, which does that to a call
that arrives while it shuts down: at most five attempts, with exponential backoff. It lets
a call wait for a connection until its deadline (30 s unless the call has its own). A retry is safe: every mutating
call of MailboxService carries an idempotency key, the same in each attempt, and AdminService is idempotent by itself.
"""

import importlib.resources
from collections.abc import Sequence

import grpc
import grpc.aio

from postroom.client import interceptors
from postroom.client.tls import TLS

Options = Sequence[tuple[str, int | str]]

KEEPALIVE: Options = (
    # A connection that a middlebox has dropped is noticed within 40 s, also while a call is waiting.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Reconnect soon after a restart of the service; the default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
MAX_METADATA_BYTES = 64 * 1_024
"""Room for the details of an error: with `x-accept-details: all` they may exceed gRPC's default of 8 KiB."""


def service_config() -> str:
    """Return the service config as JSON, the same as `protos/service_config.json`."""
    return importlib.resources.files("postroom.client").joinpath("service_config.json").read_text(encoding="utf-8")


def channel(
    target: str,
    secret_key: str,
    *,
    tls: TLS | None = None,
    insecure: bool = False,
    idempotency_keys: bool = True,
    options: Options = (),
) -> grpc.Channel:
    """Return a channel to the service at `target`, such as `mail.example.org:9443`.

    `secret_key` authenticates every call: an API key for MailboxService, an admin key for AdminService. The channel
    uses TLS, with gRPC's own root certificates if `tls` is None, unless `insecure` allows plain text. With
    `idempotency_keys`, a mutating call without an `idempotency-key` of its own gets a random one. `options` are
    further channel arguments of gRPC, and override those given here. Raises ValueError for contradictory arguments.
    """
    arguments = _arguments(tls, options)
    metadata = interceptors.CallMetadata(secret_key, idempotency_keys)
    if _is_insecure(tls, insecure):
        bare = grpc.insecure_channel(target, arguments)
    else:
        bare = grpc.secure_channel(target, (tls or TLS()).credentials(), arguments)
    return grpc.intercept_channel(bare, interceptors.Interceptor(metadata))


def aio_channel(
    target: str,
    secret_key: str,
    *,
    tls: TLS | None = None,
    insecure: bool = False,
    idempotency_keys: bool = True,
    options: Options = (),
) -> grpc.aio.Channel:
    """Return a channel for asyncio. The parameters are those of `channel`."""
    arguments = _arguments(tls, options)
    metadata = interceptors.CallMetadata(secret_key, idempotency_keys)
    intercepted = [interceptors.AioInterceptor(metadata)]
    if _is_insecure(tls, insecure):
        return grpc.aio.insecure_channel(target, arguments, interceptors=intercepted)
    return grpc.aio.secure_channel(target, (tls or TLS()).credentials(), arguments, interceptors=intercepted)


def _is_insecure(tls: TLS | None, insecure: bool) -> bool:
    if insecure and tls is not None:
        raise ValueError("insecure and tls contradict each other: give one of them")
    return insecure


def _arguments(tls: TLS | None, options: Options) -> list[tuple[str, int | str]]:
    arguments: dict[str, int | str] = dict(KEEPALIVE)
    arguments["grpc.service_config"] = service_config()
    arguments["grpc.max_metadata_size"] = MAX_METADATA_BYTES
    arguments["grpc.absolute_max_metadata_size"] = MAX_METADATA_BYTES
    if tls is not None and tls.server_name is not None:
        arguments["grpc.ssl_target_name_override"] = tls.server_name
    return list((arguments | dict(options)).items())
