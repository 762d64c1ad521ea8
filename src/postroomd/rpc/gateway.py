"""The gateways' service: what they need besides the tenants' API."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from postroom.gateway.v1alpha1 import gateway_service_pb2
from postroomd.domain.context import CallContext
from postroomd.domain.domain_names import canonical_mail_domain
from postroomd.domain.errors import InvalidArguments, KeyRefusal, NotFound, Reason, Unauthenticated, Violation
from postroomd.rpc.authentication import Caller
from postroomd.rpc.client_address import GATEWAY_SECRET, AddressOf, Metadata
from postroomd.rpc.convert import ServiceUrls
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.domains import Domains

MAX_CALLS = 16
"""Calls of this service in progress: they have slots of their own, since anyone can cause them."""


class GatewayAuthenticator:
    """Authenticates gateways by their secret. Their calls count for the client that caused them."""

    def __init__(self, secret: str, address_of: AddressOf) -> None:
        self._secret = secret.encode()
        self._address_of = address_of

    async def authenticate(self, metadata: Metadata, peer: Callable[[], str]) -> Caller:
        """Return the gateway, with the client's address as its organization. Raises Unauthenticated."""
        sent = dict(metadata).get(GATEWAY_SECRET, "")
        if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), self._secret):
            raise Unauthenticated(KeyRefusal.NOT_FOUND)
        address = self._address_of(metadata, peer())
        return Caller(CallContext(actor="gateway"), True, "gateway", address, {"client": "gateway"})


@dataclass(frozen=True, slots=True)
class GatewayServicer:
    """The RPCs of GatewayService; their names and errors are those of the contract."""

    domains: Domains
    urls: ServiceUrls

    async def GetDomainMailServers(
        self, request: gateway_service_pb2.GetDomainMailServersRequest, _context: CallContext
    ) -> str:
        """Return the stored name of the domain. Raises InvalidArguments, and NotFound if no domain is ready."""
        try:
            name = canonical_mail_domain(request.name)
        except ValueError as error:
            raise InvalidArguments([Violation("name", Reason.FORMAT, str(error))]) from error
        if not await self.domains.is_ready(name):
            raise NotFound("domain", name)
        return name

    def rpcs(self) -> dict[str, Rpc]:
        """Return the RPCs by name."""
        return {"GetDomainMailServers": Rpc(self.GetDomainMailServers, self._message)}

    def _message(self, name: str) -> gateway_service_pb2.GetDomainMailServersResponse:
        return gateway_service_pb2.GetDomainMailServersResponse(
            name=name, imap_host=self.urls.imap, pop3_host=self.urls.pop3, smtp_host=self.urls.smtp
        )
