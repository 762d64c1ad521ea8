"""gRPC channel from the gateway to the service."""

import grpc

MAX_DETAILS_BYTES = 1024 * 1024

# Reconnect within 3 s of the service's return: by default gRPC backs off up to 120 s between attempts and allows 20 s
# for each. Here an attempt and the backoff after it take at most 1 s each. Calls in between fail immediately.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # despite its name, the timeout of one connection attempt
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Detect a peer that vanished without closing. The service must permit this ping interval, or it sends GOAWAY.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # Error details are metadata, which gRPC limits to 8 KiB by default; the violations of a batch can exceed that.
    ("grpc.max_metadata_size", MAX_DETAILS_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_DETAILS_BYTES),
    ("grpc.enable_http_proxy", 0),  # the service is never behind the proxy that http_proxy names
)


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel that connects, and reconnects, by itself. Requires a running event loop."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
