"""A small internet on loopback: authoritative servers, and a resolver that knows which they are.

All servers share one port, at addresses of their own: 127.0.0.0/8 has many, ::1 is the only one of IPv6.
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

RESOLVER = "127.0.0.53"

Packet = dns.message.Message | bytes
Reply = Packet | Sequence[Packet] | None
"""What a server sends: a message, octets as they are, several of them one after the other, or nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that a server has got."""

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


Answering = Callable[[Asked], Reply]


class Authority:
    """Answers from zones as RFC 1034, section 4.3.2 has it, one CNAME record at a time."""

    def __init__(self) -> None:
        self._zones: dict[dns.name.Name, dns.zone.Zone] = {}

    def serve(self, apex: str, text: str) -> None:
        origin = dns.name.from_text(apex)
        soa = f"@ 60 IN SOA ns.invalid. hostmaster.invalid. 1 60 60 60 60\n{text}"
        self._zones[origin] = dns.zone.from_text(soa, origin, relativize=False, check_origin=False)

    def __call__(self, asked: Asked) -> Reply:
        response = asked.response
        around = [apex for apex in self._zones if asked.name.is_subdomain(apex)]
        if not around:
            response.set_rcode(dns.rcode.REFUSED)
            return response
        apex = max(around, key=len)
        zone = self._zones[apex]
        cut = self._delegation(zone, apex, asked.name)
        if cut:
            response.authority.append(cut)
            return response
        response.flags |= dns.flags.AA
        node = zone.get_node(asked.name) or self._wildcard(zone, apex, asked.name)
        found = node and (
            node.get_rdataset(zone.rdclass, asked.rdtype) or node.get_rdataset(zone.rdclass, RdataType.CNAME)
        )
        if found:
            response.answer.append(rrset(asked.name, found))
            return response
        response.authority.append(zone.find_rrset(apex, RdataType.SOA))
        if node is None and not any(name.is_subdomain(asked.name) for name in zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    @staticmethod
    def _delegation(zone: dns.zone.Zone, apex: dns.name.Name, name: dns.name.Name) -> dns.rrset.RRset | None:
        above = [name.split(depth)[1] for depth in range(len(apex) + 1, len(name) + 1)]
        return next((found for found in (zone.get_rrset(cut, "NS") for cut in above) if found), None)

    @staticmethod
    def _wildcard(zone: dns.zone.Zone, apex: dns.name.Name, name: dns.name.Name) -> dns.node.Node | None:
        above = [name.split(depth)[1] for depth in range(len(name) - 1, len(apex) - 1, -1)]
        star = dns.name.Name(["*"])
        return next((node for node in (zone.get_node(star + parent) for parent in above) if node), None)


def rrset(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, 60, list(rdataset))


def silent(asked: Asked) -> Reply:
    """No answer."""
    del asked
    return None


def failing(code: dns.rcode.Rcode) -> Answering:
    """An error as the answer to everything."""

    def answer(asked: Asked) -> Reply:
        response = asked.response
        response.set_rcode(code)
        return response

    return answer


def changed(answering: Answering, change: Callable[[Asked, dns.message.Message], Reply]) -> Answering:
    """What is answered, changed on its way."""

    def answer(asked: Asked) -> Reply:
        response = answering(asked)
        assert isinstance(response, dns.message.Message)
        return change(asked, response)

    return answer


@dataclass
class Server:
    """A DNS server at one address, over UDP and TCP."""

    address: str
    answering: Answering
    asked: list[Asked] = field(default_factory=list)

    async def start(self, port: int, cleanups: AsyncExitStack) -> None:
        """Listen. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        tcp = await asyncio.start_server(self._talk, self.address, port)
        cleanups.callback(tcp.close)
        udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(self.address, port))
        cleanups.callback(udp.close)

    def replies(self, wire: bytes, *, tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(wire)
        asked = Asked(query, tcp)
        self.asked.append(asked)
        reply = self.answering(asked)
        most = 65_535 if tcp else max(query.payload, 512)
        packets = () if reply is None else (reply,) if isinstance(reply, Packet) else reply
        return [
            packet if isinstance(packet, bytes) else packet.to_wire(max_size=most, prefer_truncation=True)
            for packet in packets
        ]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            replies = self.replies(await reader.readexactly(length), tcp=True)
            for response in replies:
                writer.write(struct.pack("!H", len(response)) + response if response else b"")
            if not replies:
                await reader.read()  # until the client gives up
            await writer.drain()
        except (EOFError, OSError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for response in self._server.replies(data, tcp=False):
            self._transport.sendto(response, addr)


class Internet:
    """Authoritative servers by address, and the resolver."""

    def __init__(self, cleanups: AsyncExitStack) -> None:
        self._cleanups = cleanups
        self._names: dict[tuple[dns.name.Name, RdataType], list[str]] = {}
        self.resolver = Server(RESOLVER, self.resolve)
        self.authority = Authority()
        self.port = 0
        self.servers: dict[str, Server] = {}

    async def open(self) -> None:
        """Take a port. It is none that the kernel gives to clients, who could hold it at another server's address."""
        while True:
            self.port = 20_000 + secrets.randbelow(12_000)
            try:
                await self.resolver.start(self.port, self._cleanups)
            except OSError:
                continue
            return

    def publish(self, apex: str, text: str) -> None:
        """Have all servers that answer normally serve a zone, or serve it anew."""
        self.authority.serve(apex, text)

    async def delegate(self, apex: str, *addresses: str) -> Sequence[Server]:
        """Let the resolver name these addresses as a zone's servers, ns1 and so on, and have a server at each."""
        hosts = [f"ns{number}.{apex}." for number in range(1, len(addresses) + 1)]
        self.tell(apex, RdataType.NS, *hosts)
        for host, address in zip(hosts, addresses, strict=True):
            self.tell(host, RdataType.AAAA if ip_address(address).version == 6 else RdataType.A, address)
        return [await self._server(address) for address in addresses]

    def tell(self, name: str, rdtype: RdataType, *values: str) -> None:
        """Let the resolver know something."""
        self._names[dns.name.from_text(name), rdtype] = list(values)

    def resolve(self, asked: Asked) -> Reply:
        """The resolver's answer: what it was told, or that there is nothing."""
        response = asked.response
        response.flags |= dns.flags.RA
        values = self._names.get((asked.name, asked.rdtype))
        if values:
            response.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", asked.rdtype, values))
        elif not any(name == asked.name for name, _ in self._names):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    @property
    def asked(self) -> list[Asked]:
        """All that authoritative servers were asked."""
        return [asked for server in self.servers.values() for asked in server.asked]

    async def _server(self, address: str) -> Server:
        if address not in self.servers:
            server = self.servers[address] = Server(address, self.authority)
            await server.start(self.port, self._cleanups)
        return self.servers[address]
