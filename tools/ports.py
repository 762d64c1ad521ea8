"""Free loopback ports."""

import os
import secrets
import socket
from contextlib import ExitStack

SERVER_PORTS = range(20_000, 28_000)
"""Below those that Linux gives to clients: a connection could take one of those before the server has started."""
NAME_SERVER_PORTS = range(28_000, 32_000)
"""For servers of tests that share a port at several addresses: it may be free at one, and in use at another."""
SHARES = 8  # of the ports: processes with successive ids never choose the same one before a server has bound it

_given: set[int] = set()
"""Ports that this process has returned: the server of one may not have bound it yet when the next is chosen."""


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nothing uses at the moment, no two of them equal, and none that was returned before.

    Ports are returned again once every other one of the process has been.
    """
    with ExitStack() as sockets:
        return [sockets.enter_context(_bound()).getsockname()[1] for _ in range(count)]


def free_port() -> int:
    """Return a loopback port that nothing uses at the moment."""
    return free_ports(1)[0]


def free_address() -> str:
    """Return a loopback address, HOST:PORT, that nothing uses at the moment."""
    return f"127.0.0.1:{free_port()}"


def _bound() -> socket.socket:
    while True:
        share = SERVER_PORTS[os.getpid() % SHARES :: SHARES]
        candidates = [port for port in share if port not in _given]
        if not candidates:
            _given.clear()
            continue
        port = secrets.choice(candidates)
        _given.add(port)
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:  # in use
            candidate.close()
        else:
            return candidate
