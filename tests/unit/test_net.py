"""Network addresses: parsing, formatting, loopback and wildcards."""

import pytest

from postroomd.net import connectable, is_loopback, join_address, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:0", "::1", 0),
        ("mail-api.example.org:65535", "mail-api.example.org", 65535),
    ],
)
def test_an_address_is_split_and_joined(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert join_address(host, port) == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.9.10:80", "[::1]:80", "localhost:80"])
def test_loopback_addresses(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.168.0.1:80", "example.org:80", "127.0.0.1", "x"])
def test_other_addresses_are_not_loopback(address: str) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize(
    ("listening", "connecting"),
    [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("[::1]:80", "[::1]:80"),
        ("api.example.org:80", "api.example.org:80"),
    ],
)
def test_a_wildcard_address_is_reached_over_loopback(listening: str, connecting: str) -> None:
    assert connectable(listening) == connecting
