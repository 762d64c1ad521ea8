"""The address of a call's client: that of its connection, or what a gateway passes on."""

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import unquote

CLIENT_ADDRESS, GATEWAY_SECRET = "x-client-address", "x-gateway-secret"

IPV6_NETWORK_BITS = 64  # what one client has

Metadata = Sequence[tuple[str, str | bytes]]
AddressOf = Callable[[Metadata, str], str]


class ClientAddresses:
    """Tells the clients of calls apart. Only calls with the gateways' secret may name another address than their own.

    Without a secret, no gateway is recognized, and its clients count as one.
    """

    def __init__(self, gateway_secret: str | None = None) -> None:
        self._secret = gateway_secret.encode() if gateway_secret else None

    def address_of(self, metadata: Metadata, peer: str) -> str:
        """Return the client of a call: an IPv4 address, or the network of an IPv6 address.

        `peer` is gRPC's name of the other end of the connection, such as `ipv4:192.0.2.1:50000`.
        """
        if self._secret is not None:
            sent = dict(metadata)
            secret = sent.get(GATEWAY_SECRET, "")
            if isinstance(secret, str) and hmac.compare_digest(secret.encode(), self._secret):
                return _network(str(sent.get(CLIENT_ADDRESS, "")))
        host = unquote(peer).partition(":")[2].rpartition(":")[0]
        return _network(host.strip("[]"))


def _network(address: str) -> str:
    """Return an address without what one client may vary. Text that is no address is one client."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed), IPV6_NETWORK_BITS), strict=False))
    return str(parsed)


OWN_ADDRESS: AddressOf = ClientAddresses().address_of
"""The client of a call where no gateway is recognized."""
