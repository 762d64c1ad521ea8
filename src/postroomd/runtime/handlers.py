"""The handlers of the service process: the servicers of each API behind the boundary of its callers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from postroom.admin.v1alpha1 import admin_service_pb2
from postroom.gateway.v1alpha1 import gateway_service_pb2
from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.domain.domains import MIN_VALIDATION_INTERVAL
from postroomd.domain.reserved_names import ReservedNames
from postroomd.net import split_list
from postroomd.rpc.admin import AdminServicer
from postroomd.rpc.admin_dkim import AdminDkimServicer
from postroomd.rpc.admin_history import AdminHistoryServicer
from postroomd.rpc.admin_search import AdminSearchServicer
from postroomd.rpc.admission import Admission
from postroomd.rpc.aliases import AliasServicer
from postroomd.rpc.authentication import Authenticator, operator_caller, tenant_caller
from postroomd.rpc.boundary import Boundary
from postroomd.rpc.client_address import ClientAddresses
from postroomd.rpc.connection_calls import Calls
from postroomd.rpc.convert import ServiceUrls
from postroomd.rpc.domains import DomainServicer
from postroomd.rpc.forwardings import ForwardingServicer
from postroomd.rpc.gateway import MAX_CALLS, GatewayAuthenticator, GatewayServicer
from postroomd.rpc.hashing import PasswordHashing
from postroomd.rpc.list_limits import ListLimits
from postroomd.rpc.mailboxes import MailboxServicer
from postroomd.rpc.methods import Rpc
from postroomd.rpc.rate_limits import RateLimits
from postroomd.rpc.rejections import Rejections
from postroomd.rpc.server import Handlers
from postroomd.settings import Settings
from postroomd.storage.protocols.repository import Repository

if TYPE_CHECKING:
    from postroomd.observability.tracing import Tracer

MAILBOX_SERVICE = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
ADMIN_SERVICE = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
GATEWAY_SERVICE = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Apis:
    """Builds the handlers of every API, from what they share in a process. `clock` returns the current time."""

    settings: Settings
    repository: Repository
    hashing: PasswordHashing
    clock: Callable[[], datetime]
    calls: Calls | None
    tracer: "Tracer | None"

    def tenant_handlers(self, admission: Admission, refuses_calls: Callable[[], bool]) -> Handlers:
        """Return the handlers of the tenants' API, and of gateways if these have a secret."""
        settings, repository = self.settings, self.repository
        secret = settings.gateway_secret.get_secret_value() if settings.gateway_secret else None
        addresses = ClientAddresses(secret)
        boundary = Boundary(
            repository=repository,
            authenticator=Authenticator(
                repository.tenancy.find_key,
                tenant_caller,
                self.clock,
                settings.key_cache_seconds,
                addresses.address_of,
            ),
            clock=self.clock,
            addresses=addresses,
            admission=admission,
            rate_limits=RateLimits(settings.rate_limit, settings.organization_rate_limit),
            rejections=Rejections(addresses.is_gateway),
            client_certificates=settings.tls_client_ca is not None,
            refuses_calls=refuses_calls,
            calls=self.calls,
            quotas=settings.quotas(),
            tracer=self.tracer,
        )
        handlers = boundary.handlers(MAILBOX_SERVICE, self._tenant_rpcs())
        if secret is None:
            return handlers
        return {**handlers, **self._gateway_handlers(GatewayAuthenticator(secret, addresses.address_of))}

    def admin_handlers(self, admission: Admission) -> Handlers:
        """Return the handlers of the operator's API."""
        settings, repository = self.settings, self.repository
        boundary = Boundary(
            repository=repository,
            authenticator=Authenticator(
                repository.admin_keys.find, operator_caller, self.clock, settings.key_cache_seconds
            ),
            clock=self.clock,
            admission=admission,
            client_certificates=settings.tls_client_ca is not None,
            calls=self.calls,
            tracer=self.tracer,
        )
        servicers = (
            AdminServicer(
                administration=repository.administration,
                audit=repository.audit,
                policy=settings.lifecycle_policy(),
                clock=self.clock,
            ),
            AdminSearchServicer(
                mailboxes=repository.mailboxes,
                domains=repository.domains,
                administration=repository.administration,
                urls=_urls(settings),
            ),
            AdminHistoryServicer(administration=repository.administration),
            AdminDkimServicer(
                rotations=repository.dkim_rotations,
                pool=self.hashing.pool,
                selector=settings.dkim_selector,
                bits=int(settings.dkim_bits),
                overlap=settings.dkim_overlap,
                clock=self.clock,
            ),
        )
        return boundary.handlers(ADMIN_SERVICE, {name: rpc for each in servicers for name, rpc in each.rpcs().items()})

    def _gateway_handlers(self, authenticator: GatewayAuthenticator) -> Handlers:
        boundary = Boundary(
            repository=self.repository,
            authenticator=authenticator,
            clock=self.clock,
            admission=Admission(MAX_CALLS),
            client_certificates=self.settings.tls_client_ca is not None,
        )
        servicer = GatewayServicer(self.repository.domains, _urls(self.settings))
        return boundary.handlers(GATEWAY_SERVICE, servicer.rpcs())

    def _tenant_rpcs(self) -> dict[str, Rpc]:
        settings, repository = self.settings, self.repository
        policy = settings.lifecycle_policy()
        limits = ListLimits()
        domains = DomainServicer(
            domains=repository.domains,
            tenancy=repository.tenancy,
            pool=self.hashing.pool,
            hosts=settings.mail_hosts(),
            reserved=_reserved_names(settings),
            urls=_urls(settings),
            dkim_selector=settings.dkim_selector,
            dkim_bits=int(settings.dkim_bits),
            limits=limits,
            policy=policy,
            quotas=settings.quotas(),
            clock=self.clock,
            min_validation_interval=MIN_VALIDATION_INTERVAL if settings.domain_validation == "dns" else timedelta(0),
        )
        mailboxes = MailboxServicer(
            mailboxes=repository.mailboxes,
            domains=repository.domains,
            hashing=self.hashing,
            limits=limits,
            policy=policy,
            clock=self.clock,
        )
        aliases = AliasServicer(aliases=repository.aliases, policy=policy, quotas=settings.quotas(), clock=self.clock)
        forwardings = ForwardingServicer(forwardings=repository.forwardings, policy=policy, clock=self.clock)
        return {**domains.rpcs(), **mailboxes.rpcs(), **aliases.rpcs(), **forwardings.rpcs()}


def _reserved_names(settings: Settings) -> ReservedNames:
    hosts = (
        settings.mx_host,
        settings.imap_host,
        settings.pop3_host,
        settings.smtp_host,
        settings.webmail_host,
        settings.caldav_host,
        settings.carddav_host,
        settings.autoconfig_host,
        settings.autodiscover_host,
        settings.spf_include,
    )
    return ReservedNames(frozenset(hosts), frozenset(split_list(settings.allow_reserved_names)))


def _urls(settings: Settings) -> ServiceUrls:
    return ServiceUrls(
        webmail=f"https://{settings.webmail_host}",
        imap=settings.imap_host,
        pop3=settings.pop3_host,
        smtp=settings.smtp_host,
    )
