"""Look-ups at the authoritative servers of a name, so that no cached answer is used.

The recursive resolvers only say which servers those are: the name servers of the closest enclosing zone, from which
delegations to zones below are followed (RFC 1034, section 4.3). An answer counts where it is authoritative, for the
name that was asked for; CNAME records are followed one by one, each at the servers of its own name.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from itertools import zip_longest

import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType

from postroomd.dns.answers import Answer, Outcome
from postroomd.dns.config import DnsConfig, Endpoint, is_public
from postroomd.dns.reading import (
    apex_above,
    authority_flaw,
    delegation_in,
    records_of,
    resolver_flaw,
    targets_of,
    text_of,
    value_of,
)
from postroomd.dns.transport import EDNS_PAYLOAD, NoAnswer, ask_over_tcp, ask_over_udp
from postroomd.dns.wording import cut, listed

MOST_ALIASES = 8  # CNAME records that are followed in a row
MOST_DELEGATIONS = 8
MOST_NAME_SERVERS = 6  # that are asked of a zone: one NS set could else cause hundreds of queries (CVE-2020-12662)
MOST_ADDRESSES = 4  # of one name server
MOST_FAILURES = 3  # after which a server is not asked again for this domain

Flaw = Callable[[dns.message.Message], str | None]
"""An answer -> why it is not taken, as a clause."""


class LookupFailed(Exception):
    """No server has given an answer that counts. The text says which server failed how."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and what errors call it: tenants read them, and are not told where the operator's resolvers are."""

    label: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone, and the servers that it is delegated to."""

    apex: dns.name.Name
    servers: Sequence[Server]


class Lookup:
    """The look-ups of one domain: what they learn of zones and servers is shared, and what they send is counted."""

    def __init__(self, config: DnsConfig, resolvers: Sequence[Endpoint]) -> None:
        self._config = config
        self._resolvers = [Server(f"resolver {number}", resolver) for number, resolver in enumerate(resolvers, 1)]
        self._left = config.max_queries
        self._slots = asyncio.Semaphore(config.concurrency)
        self._zones: dict[dns.name.Name, Zone] = {}
        self._finding_a_zone = asyncio.Lock()
        self._failures: Counter[Server] = Counter()
        self._reasons: dict[Server, str] = {}

    @property
    def troubles(self) -> str:
        """Which servers have failed so far, and how each did last."""
        return _told(self._reasons)

    async def look_up(self, name: dns.name.Name, rdtype: RdataType, until: dns.name.Name | None = None) -> Answer:
        """What is published of a type under a name. CNAME records are followed as far as `until`."""
        chain = [name]
        try:
            outcome, values = await self._follow(chain, rdtype, until)
        except LookupFailed as error:
            return Answer(outcome=Outcome.FAILED, chain=tuple(map(text_of, chain)), reason=str(error))
        return Answer(outcome=outcome, chain=tuple(map(text_of, chain)), values=values)

    async def find_zone(self, name: dns.name.Name) -> Zone:
        """The closest known zone around a name; the resolvers are asked where there is none. Raises LookupFailed."""
        async with self._finding_a_zone:
            enclosing = [zone for apex, zone in self._zones.items() if name.is_subdomain(apex)]
            if enclosing:
                return max(enclosing, key=lambda zone: len(zone.apex))
            return await self._add_zone(*await self._find_hosts(name))

    async def _find_hosts(self, name: dns.name.Name) -> tuple[dns.name.Name, Sequence[dns.name.Name]]:
        """The apex of the zone that a name lies in, and its name servers."""
        candidate = name
        while candidate != dns.name.root:
            try:
                answer = await self._ask_resolvers(candidate, RdataType.NS)
            except LookupFailed as error:
                raise LookupFailed(f"its name servers could not be found: {error}") from error
            hosts = targets_of(records_of(answer.answer, candidate, RdataType.NS))
            if hosts:
                return candidate, hosts
            candidate = apex_above(candidate, answer)
        raise LookupFailed("no name servers were found of it, nor of any name above it")

    async def _follow(
        self, chain: list[dns.name.Name], rdtype: RdataType, until: dns.name.Name | None
    ) -> tuple[Outcome, tuple[str, ...]]:
        while True:
            answer = await self._ask_authorities(chain[-1], rdtype)
            aliases = targets_of(records_of(answer.answer, chain[-1], RdataType.CNAME))
            if not aliases:
                break
            chain.append(aliases[0])
            if chain[-1] in chain[:-1]:
                return Outcome.LOOP, ()
            if chain[-1] == until:
                break
            if len(chain) > MOST_ALIASES:
                return Outcome.TOO_LONG, ()
        if rdtype is RdataType.CNAME and len(chain) > 1:
            return Outcome.FOUND, tuple(target.to_text() for target in chain[1:])
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return Outcome.NO_NAME, ()
        values = tuple(map(value_of, records_of(answer.answer, chain[-1], rdtype)))
        return (Outcome.FOUND if values else Outcome.NO_DATA), values

    async def _ask_authorities(self, name: dns.name.Name, rdtype: RdataType) -> dns.message.Message:
        zone = await self.find_zone(name)
        for _ in range(MOST_DELEGATIONS):
            flaw = partial(authority_flaw, apex=zone.apex, name=name)
            answer = await self._ask(zone.servers, name, rdtype, dns.flags.Flag(0), flaw)
            delegation = delegation_in(answer, zone.apex, name)
            if delegation is None:
                return answer
            async with self._finding_a_zone:
                known = self._zones.get(delegation.name)
                zone = known or await self._add_zone(delegation.name, targets_of(list(delegation)))
        raise LookupFailed(f"more than {MOST_DELEGATIONS} delegations lead to the name")

    async def _ask_resolvers(self, name: dns.name.Name, rdtype: RdataType) -> dns.message.Message:
        return await self._ask(self._resolvers, name, rdtype, dns.flags.RD, resolver_flaw)

    async def _add_zone(self, apex: dns.name.Name, every_host: Sequence[dns.name.Name]) -> Zone:
        hosts = every_host[:MOST_NAME_SERVERS]
        found = await asyncio.gather(*map(self._find_addresses, hosts))
        refusals = {text_of(host): refusal for host, (_, refusal) in zip(hosts, found, strict=True) if refusal}
        # One address of each host before the second of any: the addresses of one host are likely to fail together.
        rounds = zip_longest(*(servers for servers, _ in found))
        servers = {server.endpoint: server for one_round in rounds for server in one_round if server is not None}
        if not servers:
            clauses = [f"{cut(host, 60)} {refusal}" for host, refusal in refusals.items()]
            raise LookupFailed(f"no name server of {cut(text_of(apex), 60)} can be asked: {listed(clauses)}")
        zone = self._zones[apex] = Zone(apex, list(servers.values()))
        return zone

    async def _find_addresses(self, host: dns.name.Name) -> tuple[list[Server], str]:
        """The servers at a host's addresses, IPv4 first, and why there are none."""
        found = await asyncio.gather(*(self._resolve(host, rdtype) for rdtype in (RdataType.A, RdataType.AAAA)))
        addresses = [address for texts, _ in found for address in texts]
        allowed = [text for text in addresses if self._config.allow_private or is_public(ip_address(text))]
        if allowed:
            port = self._config.authoritative_port
            endpoints = [Endpoint(address, port) for address in allowed[:MOST_ADDRESSES]]
            return [Server(f"{cut(text_of(host), 60)} ({endpoint})", endpoint) for endpoint in endpoints], ""
        if addresses:
            # The address is not told: the operator's resolver may know names that the public internet does not.
            return [], "has no public address"
        return [], next((reason for _, reason in found if reason), "has no address")

    async def _resolve(self, host: dns.name.Name, rdtype: RdataType) -> tuple[list[str], str]:
        try:
            answer = await self._ask_resolvers(host, rdtype)
        except LookupFailed as error:
            return [], f"could not be resolved ({error})"
        return [record.to_text() for record in records_of(answer.answer, host, rdtype)], ""

    async def _ask(
        self, servers: Sequence[Server], name: dns.name.Name, rdtype: RdataType, flags: dns.flags.Flag, flaw: Flaw
    ) -> dns.message.Message:
        """The first answer that counts, of one server after another. Raises LookupFailed."""
        reasons: dict[Server, str] = {}
        untried = list(servers)
        while untried:
            async with self._slots:
                # Chosen only now: while this one waited, other look-ups may have found out which servers fail.
                server = min(untried, key=self._failures.__getitem__)
                untried.remove(server)
                if self._failures[server] < MOST_FAILURES:
                    try:
                        answer = await self._exchange(server.endpoint, name, rdtype, flags)
                    except NoAnswer as error:
                        self._failures[server] += 1
                        self._reasons[server] = str(error)
                    else:
                        reason = flaw(answer)
                        if reason is None:
                            return answer
                        self._reasons[server] = reason
                reasons[server] = self._reasons[server]
        raise LookupFailed(_told(reasons))

    async def _exchange(
        self, endpoint: Endpoint, name: dns.name.Name, rdtype: RdataType, flags: dns.flags.Flag
    ) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype, use_edns=0, payload=EDNS_PAYLOAD, flags=flags)
        patience = self._config.timeout_seconds
        self._spend()
        answer = await ask_over_udp(query, endpoint, patience)
        if answer.rcode() == dns.rcode.FORMERR:  # a server from before EDNS (RFC 6891, section 7)
            query = dns.message.make_query(name, rdtype, flags=flags)
            self._spend()
            answer = await ask_over_udp(query, endpoint, patience)
        if answer.flags & dns.flags.TC:
            self._spend()
            answer = await ask_over_tcp(query, endpoint, patience)
        return answer

    def _spend(self) -> None:
        if self._left <= 0:
            raise LookupFailed(f"it takes more than the {self._config.max_queries} queries that a domain may cause")
        self._left -= 1


def _told(reasons: Mapping[Server, str]) -> str:
    return listed([f"{server.label}: {reason}" for server, reason in reasons.items()])
