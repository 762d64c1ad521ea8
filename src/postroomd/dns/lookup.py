"""Lookups at the authoritative servers of a name, which bypass caches.

The recursive resolvers only supply the name servers of the closest enclosing zone; delegations to child zones are
followed from there (RFC 1034, section 4.3). A response must be authoritative and for the queried name. CNAME records
are followed one by one, each at the servers of its own target.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from itertools import zip_longest

import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType

from postroomd.dns.client import LookupFailed, LookupRejected, QueryClient, Server
from postroomd.dns.config import DnsConfig, Endpoint, is_public
from postroomd.dns.formatting import join_limited, truncate
from postroomd.dns.limits import QueryLimits
from postroomd.dns.responses import (
    authority_error,
    delegation_in,
    name_text,
    next_apex_candidate,
    record_text,
    records_in,
    resolver_error,
    targets_of,
)
from postroomd.dns.result import EveryServersResult, LookupResult, LookupStatus

MAX_CNAMES = 8  # per chain
MAX_DELEGATIONS = 8
MAX_NAME_SERVERS = 4  # per zone: one NS set could otherwise cause hundreds of queries (CVE-2020-12662)
MAX_ALL_NAME_SERVERS = 13  # per zone, where every one is asked: as many as the root has
MAX_ADDRESSES = 2  # per name server
MAX_BRANCHES = 16  # names and zones to which the servers of one name may lead


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and its authoritative servers.

    `other_hosts` are name servers beyond MAX_NAME_SERVERS, and those that a limit kept from being resolved.
    """

    apex: dns.name.Name
    servers: Sequence[Server]
    other_hosts: Sequence[dns.name.Name] = ()


@dataclass(frozen=True, slots=True)
class _Branch:
    """A name to look up at every server, after the names whose CNAME records lead to it.

    `apex` is the zone that its parent delegates the name to; None: the closest known one.
    """

    chain: tuple[dns.name.Name, ...]
    apex: dns.name.Name | None = None


class DomainLookup:
    """Lookups of one domain, with shared knowledge of its zones and one client with the domain's budgets."""

    def __init__(
        self, config: DnsConfig, resolvers: Sequence[Endpoint], limits: QueryLimits, organization_id: str
    ) -> None:
        self._config = config
        self._resolvers = [Server(f"resolver {number}", resolver) for number, resolver in enumerate(resolvers, 1)]
        self._client = QueryClient(config, limits, organization_id)
        self._zones: dict[dns.name.Name, Zone] = {}
        self._zone_lock = asyncio.Lock()

    @property
    def server_errors(self) -> str:
        """The servers that have failed so far, each with its last error."""
        return self._client.server_errors

    async def resolve(self, name: dns.name.Name, rdtype: RdataType, until: dns.name.Name | None = None) -> LookupResult:
        """Look up the records of a type, following CNAME records up to the name `until`."""
        chain = [name]
        try:
            status, values = await self._follow_cnames(chain, rdtype, until)
        except LookupFailed as failure:
            return LookupResult(status=LookupStatus.FAILED, chain=tuple(map(name_text, chain)), error=str(failure))
        return LookupResult(status=status, chain=tuple(map(name_text, chain)), values=values)

    async def resolve_at_every_server(self, name: dns.name.Name, rdtype: RdataType) -> EveryServersResult:
        """Look up the records of a type at every authoritative server of a name: each may return others.

        Delegations and CNAME records are followed to every server of their targets.
        """
        results: dict[LookupResult, None] = {}
        unasked = ""
        branches = [_Branch((name,))]
        for branch in branches:  # which grow as servers lead elsewhere
            if len(branches) > MAX_BRANCHES:
                unasked = f"its servers lead to more than {MAX_BRANCHES} names and zones"
                break
            outcomes = await self._query_every_authority(branch, rdtype)
            failures = [str(outcome) for outcome in outcomes if isinstance(outcome, LookupFailed)]
            rejected = any(isinstance(outcome, LookupRejected) for outcome in outcomes)
            if rejected or (branch is not branches[0] and len(failures) == len(outcomes)):
                unasked = "; ".join(failures)
            results |= dict.fromkeys(outcome for outcome in outcomes if isinstance(outcome, LookupResult))
            following = dict.fromkeys(outcome for outcome in outcomes if isinstance(outcome, _Branch))
            branches += [each for each in following if each not in branches]
        return EveryServersResult(list(results), unasked)

    async def find_zone(self, name: dns.name.Name) -> Zone:
        """Return the closest known zone that contains a name, found through the resolvers if none is known.

        Raises LookupFailed.
        """
        async with self._zone_lock:
            enclosing = [zone for apex, zone in self._zones.items() if name.is_subdomain(apex)]
            if enclosing:
                return max(enclosing, key=lambda zone: len(zone.apex))
            return await self._add_zone(*await self._find_name_servers(name))

    async def _find_name_servers(self, name: dns.name.Name) -> tuple[dns.name.Name, Sequence[dns.name.Name]]:
        """Return the apex of the zone that contains a name, and the zone's name servers."""
        candidate = name
        while candidate != dns.name.root:
            try:
                response = await self._query_resolvers(candidate, RdataType.NS)
            except LookupFailed as failure:
                raise LookupFailed(f"the lookup of its name servers failed: {failure}") from failure
            hosts = targets_of(records_in(response.answer, candidate, RdataType.NS))
            if hosts:
                return candidate, hosts
            candidate = next_apex_candidate(candidate, response)
        raise LookupFailed("neither it nor any parent name has name servers")

    async def _follow_cnames(
        self, chain: list[dns.name.Name], rdtype: RdataType, until: dns.name.Name | None
    ) -> tuple[LookupStatus, tuple[str, ...]]:
        while True:
            response = await self._query_authorities(chain[-1], rdtype)
            targets = targets_of(records_in(response.answer, chain[-1], RdataType.CNAME))
            if not targets:
                break
            chain.append(targets[0])
            if chain[-1] in chain[:-1]:
                return LookupStatus.CNAME_LOOP, ()
            if chain[-1] == until:
                break
            if len(chain) > MAX_CNAMES:
                return LookupStatus.CNAME_CHAIN_TOO_LONG, ()
        if rdtype is RdataType.CNAME and len(chain) > 1:
            return LookupStatus.FOUND, tuple(target.to_text() for target in chain[1:])
        return _status_and_values(response, chain[-1], rdtype)

    async def _query_authorities(self, name: dns.name.Name, rdtype: RdataType) -> dns.message.Message:
        zone = await self.find_zone(name)
        for _ in range(MAX_DELEGATIONS):
            check = partial(authority_error, apex=zone.apex, name=name)
            response = await self._client.query_zone(zone.apex, zone.servers, name, rdtype, check)
            delegation = delegation_in(response, zone.apex, name)
            if delegation is None:
                return response
            async with self._zone_lock:
                known = self._zones.get(delegation.name)
                zone = known or await self._add_zone(delegation.name, targets_of(list(delegation)))
        raise LookupFailed(f"the name is behind more than {MAX_DELEGATIONS} delegations")

    async def _query_every_authority(
        self, branch: "_Branch", rdtype: RdataType
    ) -> Sequence["LookupResult | _Branch | LookupFailed"]:
        """Return what each server of a branch leads to: a result, another branch, or a failure."""
        name = branch.chain[-1]
        try:
            zone = self._zones[branch.apex] if branch.apex else await self.find_zone(name)
            others, unresolved = await self._find_servers(zone.other_hosts)
            servers = [*zone.servers, *others]
            check = partial(authority_error, apex=zone.apex, name=name)
            responses = await self._client.query_every_server(zone.apex, servers, name, rdtype, check)
        except LookupFailed as failure:
            return [failure]
        return unresolved + [
            response if isinstance(response, LookupFailed) else await self._follow(branch, zone, response, rdtype)
            for response in responses
        ]

    async def _follow(
        self, branch: "_Branch", zone: Zone, response: dns.message.Message, rdtype: RdataType
    ) -> "LookupResult | _Branch | LookupFailed":
        """Return the result of one server's response, or the branch that it leads to."""
        chain, name = branch.chain, branch.chain[-1]
        if delegation := delegation_in(response, zone.apex, name):
            try:
                async with self._zone_lock:
                    if delegation.name not in self._zones:
                        await self._add_zone(delegation.name, targets_of(list(delegation)))
            except LookupFailed as failure:
                return failure
            return _Branch(chain, delegation.name)
        target = next(iter(targets_of(records_in(response.answer, name, RdataType.CNAME))), None)
        status, values = _status_and_values(response, name, rdtype)
        if target is not None:
            if target not in chain and len(chain) < MAX_CNAMES:
                return _Branch((*chain, target))
            status = LookupStatus.CNAME_LOOP if target in chain else LookupStatus.CNAME_CHAIN_TOO_LONG
        return LookupResult(status=status, chain=tuple(map(name_text, chain)), values=tuple(sorted(values)))

    async def _query_resolvers(self, name: dns.name.Name, rdtype: RdataType) -> dns.message.Message:
        return await self._client.query_resolvers(self._resolvers, name, rdtype, resolver_error)

    async def _add_zone(self, apex: dns.name.Name, name_servers: Sequence[dns.name.Name]) -> Zone:
        hosts = name_servers[:MAX_NAME_SERVERS]
        resolved = await asyncio.gather(*map(self._find_addresses, hosts))
        errors = {host: error for host, (_, error) in zip(hosts, resolved, strict=True) if error}
        # Interleave: the addresses of one host are likely to fail together.
        rounds = zip_longest(*(servers for servers, _ in resolved))
        servers = {server.endpoint: server for one_round in rounds for server in one_round if server is not None}
        if not servers:
            clauses = [f"{truncate(name_text(host), 60)} {error}" for host, error in errors.items()]
            apex_text = truncate(name_text(apex), 60)
            raise LookupFailed(f"no name server of {apex_text} can be queried: {join_limited(clauses)}")
        rejected = [host for host, error in errors.items() if isinstance(error, LookupRejected)]
        others = name_servers[MAX_NAME_SERVERS:MAX_ALL_NAME_SERVERS]
        zone = self._zones[apex] = Zone(apex, list(servers.values()), [*rejected, *others])
        return zone

    async def _find_servers(self, hosts: Sequence[dns.name.Name]) -> tuple[list[Server], list[LookupFailed]]:
        """Return the servers at the addresses of hosts, and the errors of those that a limit left unresolved."""
        resolved = await asyncio.gather(*map(self._find_addresses, hosts))
        rejections: list[LookupFailed] = [error for _, error in resolved if isinstance(error, LookupRejected)]
        return [server for servers, _ in resolved for server in servers], rejections

    async def _find_addresses(self, host: dns.name.Name) -> tuple[list[Server], LookupFailed | None]:
        """Return the servers at a host's addresses, IPv4 first, or the reason why there are none, as a clause."""
        resolved = await asyncio.gather(*(self._resolve_host(host, rdtype) for rdtype in (RdataType.A, RdataType.AAAA)))
        addresses = [address for texts, _ in resolved for address in texts]
        allowed = [text for text in addresses if self._config.allow_private or is_public(ip_address(text))]
        if allowed:
            port = self._config.authoritative_port
            endpoints = [Endpoint(address, port) for address in allowed[:MAX_ADDRESSES]]
            return [Server(f"{truncate(name_text(host), 60)} ({endpoint})", endpoint) for endpoint in endpoints], None
        if addresses:
            # Without the address: the operator's resolver may know internal names.
            return [], LookupFailed("has no public address")
        return [], next((error for _, error in resolved if error), LookupFailed("has no address"))

    async def _resolve_host(self, host: dns.name.Name, rdtype: RdataType) -> tuple[list[str], LookupFailed | None]:
        try:
            response = await self._query_resolvers(host, rdtype)
        except LookupFailed as failure:
            return [], type(failure)(f"could not be resolved ({failure})")
        return [record.to_text() for record in records_in(response.answer, host, rdtype)], None


def _status_and_values(
    response: dns.message.Message, name: dns.name.Name, rdtype: RdataType
) -> tuple[LookupStatus, tuple[str, ...]]:
    if response.rcode() == dns.rcode.NXDOMAIN:
        return LookupStatus.NXDOMAIN, ()
    values = tuple(map(record_text, records_in(response.answer, name, rdtype)))
    return (LookupStatus.FOUND if values else LookupStatus.NO_DATA), values
