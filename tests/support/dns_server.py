"""Authoritative DNS servers and a recursive resolver on loopback.

All servers share one port and have separate addresses: 127.0.0.0/8 provides many, IPv6 only ::1.
"""

import asyncio
import secrets
import struct
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataset
import dns.rrset
import dns.zone
from dns.rdatatype import RdataType

from tools.ports import NAME_SERVER_PORTS

RESOLVER = "127.0.0.53"

Packet = dns.message.Message | bytes
Reply = Packet | Sequence[Packet] | None
"""What a server sends: a message, raw octets, a sequence of either, or nothing."""


@dataclass(frozen=True, slots=True)
class ReceivedQuery:
    """A query that a server received."""

    query: dns.message.Message
    tcp: bool

    @property
    def name(self) -> dns.name.Name:
        return self.query.question[0].name

    @property
    def rdtype(self) -> RdataType:
        return self.query.question[0].rdtype

    @property
    def response(self) -> dns.message.Message:
        return dns.message.make_response(self.query)


Handler = Callable[[ReceivedQuery], Reply]


class Authority:
    """Handler that serves zones (RFC 1034, section 4.3.2), one CNAME record per response."""

    def __init__(self) -> None:
        self._zones: dict[dns.name.Name, dns.zone.Zone] = {}

    def serve(self, apex: str, text: str) -> None:
        origin = dns.name.from_text(apex)
        soa = f"@ 60 IN SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60\n{text}"
        self._zones[origin] = dns.zone.from_text(soa, origin, relativize=False, check_origin=False)

    def __call__(self, received: ReceivedQuery) -> Reply:
        response = received.response
        enclosing = [apex for apex in self._zones if received.name.is_subdomain(apex)]
        if not enclosing:
            response.set_rcode(dns.rcode.REFUSED)
            return response
        apex = max(enclosing, key=len)
        zone = self._zones[apex]
        cut = self._delegation(zone, apex, received.name)
        if cut:
            response.authority.append(cut)
            return response
        response.flags |= dns.flags.AA
        node = zone.get_node(received.name) or self._wildcard(zone, apex, received.name)
        found = node and (
            node.get_rdataset(zone.rdclass, received.rdtype) or node.get_rdataset(zone.rdclass, RdataType.CNAME)
        )
        if found:
            response.answer.append(rrset(received.name, found))
            return response
        response.authority.append(zone.find_rrset(apex, RdataType.SOA))
        if node is None and not any(name.is_subdomain(received.name) for name in zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    @staticmethod
    def _delegation(zone: dns.zone.Zone, apex: dns.name.Name, name: dns.name.Name) -> dns.rrset.RRset | None:
        candidates = [name.split(depth)[1] for depth in range(len(apex) + 1, len(name) + 1)]
        return next((found for found in (zone.get_rrset(cut, "NS") for cut in candidates) if found), None)

    @staticmethod
    def _wildcard(zone: dns.zone.Zone, apex: dns.name.Name, name: dns.name.Name) -> dns.node.Node | None:
        parents = [name.split(depth)[1] for depth in range(len(name) - 1, len(apex) - 1, -1)]
        star = dns.name.Name(["*"])
        return next((node for node in (zone.get_node(star + parent) for parent in parents) if node), None)


def rrset(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, 60, list(rdataset))


def no_reply(received: ReceivedQuery) -> Reply:
    """Handler that never replies."""
    del received
    return None


def rcode_reply(code: dns.rcode.Rcode) -> Handler:
    """Return a handler that replies to everything with an error code."""

    def handle(received: ReceivedQuery) -> Reply:
        response = received.response
        response.set_rcode(code)
        return response

    return handle


def modified(handler: Handler, change: Callable[[ReceivedQuery, dns.message.Message], Reply]) -> Handler:
    """Return a handler whose responses are those of another, modified by `change`."""

    def handle(received: ReceivedQuery) -> Reply:
        response = handler(received)
        assert isinstance(response, dns.message.Message)
        return change(received, response)

    return handle


@dataclass
class Server:
    """A DNS server at one address, over UDP and TCP."""

    address: str
    handler: Handler
    queries: list[ReceivedQuery] = field(default_factory=list)

    async def start(self, port: int, cleanups: AsyncExitStack) -> None:
        """Listen. Raises OSError if the port is in use."""
        loop = asyncio.get_running_loop()
        tcp = await asyncio.start_server(self._serve_tcp, self.address, port)
        cleanups.callback(tcp.close)
        udp, _ = await loop.create_datagram_endpoint(lambda: _UdpProtocol(self), local_addr=(self.address, port))
        cleanups.callback(udp.close)

    def replies(self, wire: bytes, *, tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(wire)
        received = ReceivedQuery(query, tcp)
        self.queries.append(received)
        reply = self.handler(received)
        max_size = 65_535 if tcp else max(query.payload, 512)
        packets = () if reply is None else (reply,) if isinstance(reply, Packet) else reply
        return [
            packet if isinstance(packet, bytes) else packet.to_wire(max_size=max_size, prefer_truncation=True)
            for packet in packets
        ]

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            replies = self.replies(await reader.readexactly(length), tcp=True)
            for response in replies:
                writer.write(struct.pack("!H", len(response)) + response if response else b"")
            if not replies:
                await reader.read()  # until the client closes
            await writer.drain()
        except (EOFError, OSError):
            pass
        finally:
            writer.close()


class _UdpProtocol(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for response in self._server.replies(data, tcp=False):
            self._transport.sendto(response, addr)


class Internet:
    """The authoritative servers by address, and the resolver."""

    def __init__(self, cleanups: AsyncExitStack) -> None:
        self._cleanups = cleanups
        self._resolver_records: dict[tuple[dns.name.Name, RdataType], list[str]] = {}
        self.resolver = Server(RESOLVER, self.resolve)
        self.authority = Authority()
        self.port = 0
        self.servers: dict[str, Server] = {}

    async def open(self) -> None:
        """Choose a port that neither clients nor other servers could hold at the address of another server."""
        while True:
            self.port = secrets.choice(NAME_SERVER_PORTS)
            try:
                await self.resolver.start(self.port, self._cleanups)
            except OSError:
                continue
            return

    def publish(self, apex: str, text: str) -> None:
        """Serve a zone, or replace it, at all servers with the default handler."""
        self.authority.serve(apex, text)

    async def delegate(self, apex: str, *addresses: str) -> Sequence[Server]:
        """Start servers at the addresses, and have the resolver return them as the zone's name servers ns1, ns2, …"""
        hosts = [f"ns{number}.{apex}." for number in range(1, len(addresses) + 1)]
        self.set_resolver_records(apex, RdataType.NS, *hosts)
        for host, address in zip(hosts, addresses, strict=True):
            self.set_resolver_records(
                host, RdataType.AAAA if ip_address(address).version == 6 else RdataType.A, address
            )
        return [await self._start_server(address) for address in addresses]

    def set_resolver_records(self, name: str, rdtype: RdataType, *values: str) -> None:
        """Set the records that the resolver returns for a name and type."""
        self._resolver_records[dns.name.from_text(name), rdtype] = list(values)

    def resolve(self, received: ReceivedQuery) -> Reply:
        """Handler of the resolver: the records set, else NXDOMAIN or no data."""
        response = received.response
        response.flags |= dns.flags.RA
        values = self._resolver_records.get((received.name, received.rdtype))
        if values:
            response.answer.append(dns.rrset.from_text_list(received.name, 60, "IN", received.rdtype, values))
        elif not any(name == received.name for name, _ in self._resolver_records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    @property
    def queries(self) -> list[ReceivedQuery]:
        """All queries that the authoritative servers received."""
        return [received for server in self.servers.values() for received in server.queries]

    async def _start_server(self, address: str) -> Server:
        if address not in self.servers:
            server = self.servers[address] = Server(address, self.authority)
            await server.start(self.port, self._cleanups)
        return self.servers[address]
