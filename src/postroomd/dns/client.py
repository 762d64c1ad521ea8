"""Queries of one validation: server selection, retries, and the limits on what a validation may send."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType

from postroomd.dns.config import DnsConfig, Endpoint
from postroomd.dns.formatting import join_limited, truncate
from postroomd.dns.limits import QueryLimits
from postroomd.dns.parsing import ResponseParser, WorkExhausted
from postroomd.dns.responses import name_text
from postroomd.dns.transport import EDNS_PAYLOAD, QueryFailed, query_tcp, query_udp
from postroomd.domain.domain_names import organizational_domain

MAX_FAILURES = 2  # per server and validation, after which it is skipped; queries until its first response

ResponseCheck = Callable[[dns.message.Message], str | None]
"""Response -> why it is rejected, as a clause, or None."""


class LookupFailed(Exception):
    """No server returned a usable response. The text names each server and its failure."""


class LookupRejected(LookupFailed):
    """The query was rejected by a local limit before it was sent; no server is at fault."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server and its label in error messages. Tenants read those: a resolver's label does not contain its address."""

    label: str
    endpoint: Endpoint


class QueryClient:
    """Sends the queries of one validation.

    Limits for authoritative servers, whose addresses tenants choose: `max_packets` per validation, MAX_FAILURES
    per server, and the shared `limits` per zone and address, in which organizations take turns. The work that responses
    cause is limited too, and queries to resolvers are per organizational domain.
    """

    def __init__(self, config: DnsConfig, limits: QueryLimits, organization_id: str) -> None:
        self._config = config
        self._limits = limits
        self._organization_id = organization_id
        self._parser = ResponseParser(limits.parsing, organization_id)
        self._remaining_packets = config.max_packets
        self._remaining_resolver_queries = config.max_resolver_queries
        self._slots = asyncio.Semaphore(config.concurrency)
        self._in_flight: Counter[Server] = Counter()
        self._completed = asyncio.Condition()
        self._responsive: set[Server] = set()
        self._failures: Counter[Server] = Counter()
        self._last_errors: dict[Server, str] = {}
        self._zones: dict[dns.name.Name, bool] = {}  # zones queried -> whether the failure has been counted

    @property
    def server_errors(self) -> str:
        """The servers that have failed so far, each with its last error."""
        return _format_errors(self._last_errors)

    async def query_resolvers(
        self, resolvers: Sequence[Server], name: dns.name.Name, rdtype: RdataType, check: ResponseCheck
    ) -> dns.message.Message:
        """Return the first accepted response of a recursive resolver. Raises LookupFailed."""
        return await self._query(resolvers, name, rdtype, check, apex=None)

    async def query_zone(
        self,
        apex: dns.name.Name,
        servers: Sequence[Server],
        name: dns.name.Name,
        rdtype: RdataType,
        check: ResponseCheck,
    ) -> dns.message.Message:
        """Return the first accepted response of a zone's authoritative servers. Raises LookupFailed."""
        self._enter_zone(apex)
        try:
            response = await self._query(servers, name, rdtype, check, apex)
        except LookupRejected:
            raise
        except LookupFailed:
            if not self._zones[apex]:  # once per validation
                self._zones[apex] = True
                self._limits.zone_breaker.failed((self._organization_id, apex))
            raise
        self._limits.zone_breaker.succeeded((self._organization_id, apex))
        return response

    async def query_every_server(
        self,
        apex: dns.name.Name,
        servers: Sequence[Server],
        name: dns.name.Name,
        rdtype: RdataType,
        check: ResponseCheck,
    ) -> Sequence[dns.message.Message | LookupFailed]:
        """Return the accepted response of each of a zone's authoritative servers, or why it has none.

        Raises LookupRejected if the zone must not be queried now.
        """
        self._enter_zone(apex)
        queries = (self._query([server], name, rdtype, check, apex) for server in servers)
        outcomes = await asyncio.gather(*queries, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, LookupFailed):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, dns.message.Message | LookupFailed)]

    def _enter_zone(self, apex: dns.name.Name) -> None:
        """Raise LookupRejected if the zone's servers have failed in the latest validations."""
        if apex not in self._zones:
            if self._limits.zone_breaker.is_open((self._organization_id, apex)):
                raise LookupRejected(f"the servers of {_text(apex)} failed repeatedly: try again in a minute")
            self._zones[apex] = False

    async def _query(
        self,
        servers: Sequence[Server],
        name: dns.name.Name,
        rdtype: RdataType,
        check: ResponseCheck,
        apex: dns.name.Name | None,
    ) -> dns.message.Message:
        errors: dict[Server, str] = {}
        untried = list(servers)
        async with self._slots:
            while untried:
                server = await self._take(untried, limited=apex is not None)
                untried.remove(server)
                if self._failures[server] >= MAX_FAILURES:
                    errors[server] = self._last_errors[server]
                    continue
                if apex is not None and self._limits.server_breaker.is_open(self._circuit(server)):
                    errors[server] = self._last_errors.get(server, "was skipped after repeated failures")
                    continue
                try:
                    response = await self._exchange(server, name, rdtype, apex)
                except QueryFailed as failure:
                    self._failures[server] += 1
                    errors[server] = self._last_errors[server] = str(failure)
                else:
                    error = check(response)
                    if error is None:
                        return response
                    errors[server] = self._last_errors[server] = error
        raise LookupFailed(_format_errors(errors))

    async def _take(self, untried: Sequence[Server], *, limited: bool) -> Server:
        """Return the server with the fewest failures and queries in flight; a new server gets few until it responds."""

        def available() -> list[Server]:
            return [server for server in untried if not limited or self._has_capacity(server)]

        async with self._completed:
            await self._completed.wait_for(available)
            return min(available(), key=lambda server: (self._failures[server], self._in_flight[server]))

    def _has_capacity(self, server: Server) -> bool:
        if server in self._responsive or self._failures[server] >= MAX_FAILURES:
            return True
        return self._failures[server] + self._in_flight[server] < MAX_FAILURES

    async def _exchange(
        self, server: Server, name: dns.name.Name, rdtype: RdataType, apex: dns.name.Name | None
    ) -> dns.message.Message:
        self._in_flight[server] += 1
        try:
            response = await self._attempt(server, name, rdtype, apex)
        except WorkExhausted:  # by any of the responses: this server may not be at fault
            raise LookupRejected("the responses of its servers are too costly to parse") from None
        except QueryFailed:
            if apex is not None:
                self._limits.server_breaker.failed(self._circuit(server))
            raise
        else:
            self._responsive.add(server)
            if apex is not None:
                self._limits.server_breaker.succeeded(self._circuit(server))
            return response
        finally:
            self._in_flight[server] -= 1
            async with self._completed:
                self._completed.notify_all()

    async def _attempt(
        self, server: Server, name: dns.name.Name, rdtype: RdataType, apex: dns.name.Name | None
    ) -> dns.message.Message:
        flags = dns.flags.RD if apex is None else dns.flags.Flag(0)
        timeout = self._config.timeout_seconds

        def may_retransmit() -> bool:
            return apex is None or self._may_retransmit(server, apex)

        query = dns.message.make_query(name, rdtype, use_edns=0, payload=EDNS_PAYLOAD, flags=flags)
        await self._spend(server, name, apex)
        response = await query_udp(query, server.endpoint, timeout, may_retransmit, self._parser.parse)
        if response.rcode() == dns.rcode.FORMERR:  # a server without EDNS (RFC 6891, section 7)
            query = dns.message.make_query(name, rdtype, flags=flags)
            await self._spend(server, name, apex)
            response = await query_udp(query, server.endpoint, timeout, may_retransmit, self._parser.parse)
        if response.flags & dns.flags.TC:
            await self._spend(server, name, apex)
            response = await query_tcp(query, server.endpoint, timeout, self._parser.parse)
        return response

    async def _spend(self, server: Server, name: dns.name.Name, apex: dns.name.Name | None) -> None:
        """Take one query from the budgets and wait for the rate limits. Raises LookupFailed and WorkExhausted."""
        self._parser.check()
        if apex is None:
            if self._remaining_resolver_queries <= 0:
                raise _budget_exhausted("queries to resolvers", self._config.max_resolver_queries)
            self._remaining_resolver_queries -= 1
            await self._spend_at_resolvers(name)
            return
        if self._remaining_packets <= 0:
            raise _budget_exhausted("packets", self._config.max_packets)
        self._remaining_packets -= 1  # before the wait, during which other queries are sent
        limits, organization_id = self._limits, self._organization_id
        if not (
            await limits.zone_rate.take(apex, organization_id)
            and await limits.server_rate.take(server.endpoint.address, organization_id)
        ):
            self._remaining_packets += 1
            raise LookupRejected(f"too many queries to {_text(apex)} or its servers at present: try again in a minute")

    async def _spend_at_resolvers(self, name: dns.name.Name) -> None:
        """Wait for the rate limit: a resolver asks the name's own servers. Raises LookupRejected."""
        queried = organizational_domain(name_text(name))
        if queried and not await self._limits.resolver_rate.take(queried, self._organization_id):
            self._remaining_resolver_queries += 1
            raise LookupRejected(f"too many queries about {truncate(queried, 60)} at present: try again in a minute")

    def _may_retransmit(self, server: Server, apex: dns.name.Name) -> bool:
        """Take one packet from the budget and the rate limits, if all have one now."""
        limits = self._limits
        available = (
            self._remaining_packets > 0
            and limits.zone_rate.try_take(apex)
            and limits.server_rate.try_take(server.endpoint.address)
        )
        self._remaining_packets -= available
        return available

    def _circuit(self, server: Server) -> tuple[str, str]:
        """Return the key of a server's circuit."""
        return self._organization_id, server.endpoint.address


def _budget_exhausted(noun: str, maximum: int) -> LookupRejected:
    return LookupRejected(f"it needs more than the {maximum} {noun} allowed per domain")


def _text(apex: dns.name.Name) -> str:
    return truncate(name_text(apex), 60)


def _format_errors(errors: Mapping[Server, str]) -> str:
    return join_limited([f"{server.label}: {error}" for server, error in errors.items()])
