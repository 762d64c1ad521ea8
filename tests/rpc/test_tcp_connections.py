"""The connections that a process has accepted, by the names that gRPC has for them."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from postroomd.rpc.client_address import endpoint_of
from postroomd.rpc.tcp_connections import AcceptedConnections, is_supported


@pytest.mark.skipif(not is_supported(), reason="only Linux tells")
def test_a_connection_is_recognized_over_ipv6_too() -> None:
    with ExitStack() as cleanups:
        listening = cleanups.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        port = listening.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            client = cleanups.enter_context(socket.create_connection((host, port)))
            accepted = cleanups.enter_context(listening.accept()[0])
            client.sendall(b"12345")
            accepted.recv(5)
        connections = AcceptedConnections([port])
        found = list(connections.scan())
        assert {(connection.endpoint[0], received) for connection, received in found} == {("127.0.0.1", 5), ("::1", 5)}
        assert list(connections.scan()) == found


@pytest.mark.skipif(not is_supported(), reason="only Linux tells")
def test_connections_are_closed_and_their_descriptors_reused_at_any_time(tmp_path: Path) -> None:
    with ExitStack() as cleanups:
        listening = cleanups.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listening.getsockname()[1]
        connections = AcceptedConnections([port])
        accepted = []
        for _ in range(4):
            cleanups.enter_context(socket.create_connection(("127.0.0.1", port)))
            accepted.append(cleanups.enter_context(listening.accept()[0]))
        found = [connection for connection, _ in connections.scan()]
        assert len(found) == 4
        for connection, other in zip(found[:3], (None, "file", "connection"), strict=True):
            closed = next(each for each in accepted if each.getpeername()[1] == connection.endpoint[1])
            accepted.remove(closed)
            fd = closed.fileno()
            closed.close()
            if other == "file":
                os.dup2(cleanups.enter_context((tmp_path / "file").open("w")).fileno(), fd)
                cleanups.callback(os.close, fd)
            elif other == "connection":
                os.dup2(accepted[0].fileno(), fd)
                cleanups.callback(os.close, fd)
            assert connection.bytes_received() is None
            for change in (connection.pause, connection.resume, connection.close):
                change()
        accepted[0].sendall(b"alive")
        assert {connection.endpoint for connection, _ in connections.scan()} == {found[3].endpoint}


@pytest.mark.parametrize(
    ("peer", "endpoint"),
    [
        ("ipv4:192.0.2.1:50000", ("192.0.2.1", 50_000)),
        ("ipv6:%5B2001:db8::1%5D:50000", ("2001:db8::1", 50_000)),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", ("192.0.2.1", 50_000)),
        ("ipv6:%5Bfe80::1%252%5D:50000", ("fe80::1", 50_000)),
        ("unix:/run/postroom.sock", None),
    ],
)
def test_grpc_names_the_endpoint(peer: str, endpoint: tuple[str, int] | None) -> None:
    assert endpoint_of(peer) == endpoint
