"""Free loopback ports."""

import socket


def free_port() -> int:
    """Return a loopback port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_address() -> str:
    """Return a loopback address, HOST:PORT, that nothing listens on at the moment."""
    return f"127.0.0.1:{free_port()}"
