"""Health check of a container: exits with 0 if the process in it is ready.

`healthcheck.py http://127.0.0.1:8080/readyz` asks a gateway, `healthcheck.py grpc://127.0.0.1:50051` a service. Without
an argument it asks HEALTHCHECK_URL; without that, it checks nothing, as for a worker, which exits when it can't go on.
"""

import os
import sys
import urllib.request

TIMEOUT_SECONDS = 3


def is_ready(url: str) -> bool:
    """Whether the process at a URL is ready. Raises OSError and grpc.RpcError."""
    if url.startswith("http"):
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            return bool(response.status == 200)
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        response = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Return the exit code."""
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HEALTHCHECK_URL")
    if not url:
        return 0
    try:
        return 0 if is_ready(url) else 1
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
