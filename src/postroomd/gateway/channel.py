"""The connection to the gRPC service."""

import grpc

MAX_DETAILS_BYTES = 1024 * 1024

# A lost connection is to be back within 3 s of the service's return. gRPC would wait up to 120 s between two attempts,
# and up to 20 s for one of them; here an attempt under way when the service returns, and the wait after it, each end
# in about a second. What is called meanwhile fails at once.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # despite its name, how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Finds a peer that vanished without a word. The service has to permit pings this often, else it hangs up.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # The details of an error come as metadata, of which gRPC takes 8 KiB by default: a batch has room for more faults.
    ("grpc.max_metadata_size", MAX_DETAILS_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_DETAILS_BYTES),
    ("grpc.enable_http_proxy", 0),  # the service is next door, whatever http_proxy says
)


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel, within a running event loop. It connects by itself, and again when the connection is lost."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
