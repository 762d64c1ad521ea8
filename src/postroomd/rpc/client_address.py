"""The address of a call's client: that of its connection, or the one that a gateway reports."""

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import unquote

CLIENT_ADDRESS, GATEWAY_SECRET = "x-client-address", "x-gateway-secret"
ACCEPT_DETAILS = ("x-accept-details", "all")
"""Sent by gateways, for errors with all their details."""

IPV6_NETWORK_BITS = 64  # the network of one client

Metadata = Sequence[tuple[str, str | bytes]]
AddressOf = Callable[[Metadata, str], str]
Endpoint = tuple[str, int]
"""Address and port of the other end of a connection; an IPv4 address for its form in IPv6, and no scope."""


class ClientAddresses:
    """Identifies the clients of calls. Only a call with the gateways' secret may report another address than its own.

    Without a secret, no gateway is recognized, and its clients count as one.
    """

    def __init__(self, gateway_secret: str | None = None) -> None:
        self._secret = gateway_secret.encode() if gateway_secret else None

    def address_of(self, metadata: Metadata, peer: str) -> str:
        """Return the client of a call: an IPv4 address, or the network of an IPv6 address.

        `peer` is gRPC's name of the other end of the connection, such as `ipv4:192.0.2.1:50000`.
        """
        return client_network(self._text(metadata, peer))

    def exact_address_of(self, metadata: Metadata, peer: str) -> str:
        """Return the IP address of a call's client; "" for a client without one."""
        try:
            return str(_parse(self._text(metadata, peer)))
        except ValueError:
            return ""

    def _text(self, metadata: Metadata, peer: str) -> str:
        if self._secret is not None:
            sent = dict(metadata)
            if self._is_secret(sent.get(GATEWAY_SECRET)):
                return str(sent.get(CLIENT_ADDRESS, ""))
        return _host_and_port(peer)[0]

    def is_gateway(self, metadata: Metadata) -> bool:
        """Whether a gateway has sent the call; without a secret, whether it looks like a gateway's."""
        if self._secret is None:
            return ACCEPT_DETAILS in metadata
        return self._is_secret(dict(metadata).get(GATEWAY_SECRET))

    def _is_secret(self, sent: str | bytes | None) -> bool:
        return self._secret is not None and isinstance(sent, str) and hmac.compare_digest(sent.encode(), self._secret)


def endpoint_of(peer: str) -> Endpoint | None:
    """Return the other end of a connection by gRPC's name of it, None if it is not one of TCP."""
    host, port = _host_and_port(peer)
    try:
        return str(_parse(host)), int(port)
    except ValueError:
        return None


def _host_and_port(peer: str) -> tuple[str, str]:
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return host.strip("[]"), port


def canonical_address(address: str) -> str:
    """Return an IP address in the form of endpoints. Raises ValueError."""
    return str(_parse(address))


def client_network(address: str) -> str:
    """Return the IPv4 address or IPv6 network of an address; "" for text that is not an address."""
    try:
        parsed = _parse(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(parsed), IPV6_NETWORK_BITS), strict=False))
    return str(parsed)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that a text holds, an IPv4 address for its form in IPv6. Raises ValueError."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


OWN_ADDRESS: AddressOf = ClientAddresses().address_of
"""The client of a call where no gateway is recognized."""
