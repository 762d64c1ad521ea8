"""Free loopback ports."""

import socket

from tools.ports import SERVER_PORTS, SHARES, free_port, free_ports


def test_no_port_is_returned_twice() -> None:
    """Servers bind theirs after all of them are chosen."""
    ports = [free_port() for _ in range(100)] + free_ports(100)
    assert len(set(ports)) == 200
    assert set(ports) <= set(SERVER_PORTS)


def test_ports_are_returned_again_once_there_are_no_others() -> None:
    assert len([free_port() for _ in range(len(SERVER_PORTS) // SHARES + 1)]) == 1_001


def test_a_port_in_use_is_not_returned() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        port = server.getsockname()[1]
        assert port not in {free_port() for _ in range(len(SERVER_PORTS) // SHARES)}
