"""The connections that a process has accepted, by the names that gRPC has for them."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from postroomd.rpc.client_address import client_network, endpoint_of
from postroomd.rpc.socket_filters import MAX_NETWORKS
from postroomd.rpc.tcp_connections import AcceptedConnections, is_supported

TCP_ESTABLISHED, TCP_SYN_SENT = 1, 2  # net/tcp_states.h
HOSTS = {"127.0.0.1": "127.0.0.1", "127.0.0.2": "127.0.0.1", "::1": "::1"}
"""The address of the listener by that of the client."""


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


def is_accepted(port: int, address: str) -> bool:
    """Whether a client connects. Over loopback the kernel answers within `connect`."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.bind((address, 0))
        client.setblocking(False)
        client.connect_ex((HOSTS[address], port))
        state: int = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        assert state in {TCP_ESTABLISHED, TCP_SYN_SENT}
        return state == TCP_ESTABLISHED


@pytest.mark.skipif(not is_supported(), reason="only Linux tells")
@pytest.mark.parametrize("refused", [{"127.0.0.1"}, {"127.0.0.2"}, {"::1"}, {"127.0.0.2", "::1"}])
@pytest.mark.parametrize("others", ["198.51.{}.7", "2001:db8:0:{}::", None])
def test_new_connections_of_some_networks_are_refused(refused: set[str], others: str | None) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100) as listening:
        port = listening.getsockname()[1]
        connections = AcceptedConnections([port])
        assert list(connections.scan()) == []
        networks = {client_network(address) for address in refused}
        if others is not None:
            networks |= {client_network(others.format(number)) for number in range(MAX_NETWORKS - len(networks))}
            assert len(networks) == MAX_NETWORKS
        connections.refuse(frozenset(networks))
        assert {address for address in HOSTS if not is_accepted(port, address)} == refused
        connections.refuse(frozenset())
        assert all(is_accepted(port, address) for address in HOSTS)


@pytest.mark.skipif(not is_supported(), reason="only Linux tells")
def test_connections_of_a_listener_that_refuses_others_are_paused_and_resumed() -> None:
    with ExitStack() as cleanups:
        listening = cleanups.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listening.getsockname()[1]
        connections = AcceptedConnections([port])
        assert list(connections.scan()) == []
        client = cleanups.enter_context(socket.create_connection(("127.0.0.1", port)))
        earlier = cleanups.enter_context(listening.accept()[0])
        connections.refuse(frozenset({client_network(f"2001:db8:0:{number}::") for number in range(MAX_NETWORKS)}))
        later_client = cleanups.enter_context(socket.create_connection(("127.0.0.1", port)))
        later = cleanups.enter_context(listening.accept()[0])
        for sender, receiver in ((client, earlier), (later_client, later)):
            found = next(each for each, _ in connections.scan() if each.endpoint == receiver.getpeername())
            sender.sendall(b"before")
            assert receiver.recv(100) == b"before"
            found.pause()
            receiver.setblocking(False)
            sender.sendall(b"after")
            with pytest.raises(BlockingIOError):
                receiver.recv(100)
            found.resume()
            found.resume()  # without a filter
            receiver.setblocking(True)
            assert receiver.recv(100) == b"after"


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
