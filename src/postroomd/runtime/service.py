"""The service process: composes repository, servicers, health checks and gRPC servers, and runs them until stopped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import argon2

from postroom.admin.v1alpha1 import admin_service_pb2
from postroom.gateway.v1alpha1 import gateway_service_pb2
from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.clock import Clock
from postroomd.clock_watch import ClockWatch
from postroomd.domain.domain_names import load_tables
from postroomd.domain.domains import MIN_VALIDATION_INTERVAL
from postroomd.domain.records import MailHosts
from postroomd.domain.reserved_names import ReservedNames
from postroomd.net import split_list
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import CALL_KINDS, CALLS_IN_PROGRESS, GRPC_CONNECTIONS, Settable, sampling
from postroomd.rpc import tcp_connections
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
from postroomd.rpc.connection_guard import ConnectionGuard
from postroomd.rpc.convert import ServiceUrls
from postroomd.rpc.cpu_pool import CpuPool, default_threads
from postroomd.rpc.domains import DomainServicer
from postroomd.rpc.forwardings import ForwardingServicer
from postroomd.rpc.gateway import MAX_CALLS, GatewayAuthenticator, GatewayServicer
from postroomd.rpc.hashing import PasswordHashing, estimated_hash_seconds
from postroomd.rpc.health import SERVICE as HEALTH_SERVICE
from postroomd.rpc.health import Health
from postroomd.rpc.list_limits import ListLimits
from postroomd.rpc.mailboxes import MailboxServicer
from postroomd.rpc.methods import Rpc
from postroomd.rpc.rate_limits import RateLimits
from postroomd.rpc.reflection import reflection_handlers
from postroomd.rpc.rejections import Rejections
from postroomd.rpc.server import Handlers, Server
from postroomd.runtime.database_locks import database_lock
from postroomd.runtime.health import HealthUpdates
from postroomd.runtime.security import require_secure, service_files
from postroomd.runtime.tracing import tracing
from postroomd.settings import Settings
from postroomd.storage.migrations import require_current
from postroomd.storage.opening import ReplicaUrl, open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.secret_keys import SecretKeys
from postroomd.tls import Reloading, grpc_server_credentials

if TYPE_CHECKING:
    from postroomd.observability.tracing import Tracer

SERVICE = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
ADMIN_SERVICE = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
GATEWAY_SERVICE = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"]
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
HEALTH_PROPAGATION_SECONDS = 0.5  # until clients that watch the health status send their calls elsewhere

MAX_METADATA_BYTES = 8 * 1024  # of a call, beyond which gRPC may reject it; always from twice as much

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Every ping is answered. For one beyond a number of strikes, gRPC would close the connection, and do that again for
    # each further ping that it has read, in quadratic time: 100 kB of pings took seconds of a core. The connection
    # guard bounds pings, as all frames without calls.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients reconnect every 30 minutes, so that calls spread to services added in the meantime.
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.max_connection_idle_ms", 120_000),  # without a call; clients reconnect with the next one
    # Floods: gRPC reads a connection's calls into memory before it asks whether anything handles them.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.http2.max_requests_per_read", 8),  # new calls that one connection adds before others get their turn
    ("grpc.server_handshake_timeout_ms", 10_000),  # until a new connection has sent its HTTP/2 settings
)

log = get_logger()


async def serve(settings: Settings, stop: asyncio.Event, ready: Callable[..., None], clock: Clock) -> None:
    """Serve gRPC until `stop` is set, then drain. Calls `ready` with the bound HOST:PORT and that of the admin service.

    Raises SchemaMismatch, SecretKeyError, StorageUnavailable, FatalError, CertificateError, and OSError if an address
    can't be bound.
    """
    url = settings.database_url.get_secret_value()
    files = service_files(settings)
    require_secure(settings, "--grpc-address", settings.grpc_address, files)
    if settings.admin_address:
        require_secure(settings, "--admin-address", settings.admin_address, files)
    async with AsyncExitStack() as cleanups:
        tracer = await cleanups.enter_async_context(tracing(settings, "service"))
        certificates = None
        if files is not None:
            certificates = await asyncio.to_thread(Reloading, files, "grpc")
            await cleanups.enter_async_context(certificates.watching())
        await cleanups.enter_async_context(database_lock(settings, "serve"))
        await asyncio.to_thread(require_current, url)
        secret_keys = await asyncio.to_thread(SecretKeys, settings.secret_key_file)
        repository = await open_repository(
            url,
            owner=True,
            pool_size=settings.database_pool_size,
            replica=_replica(settings),
            statement_timeout_seconds=settings.statement_timeout_seconds,
            traced=tracer is not None,
            secret_keys=secret_keys,
        )
        cleanups.push_async_callback(repository.close)
        await repository.secrets.require_keys()
        watch = ClockWatch(clock, repository.clocks, settings.leap_limits(), is_worker=False)
        await watch.start()
        now = watch.now
        hashing = _password_hashing(settings)
        cleanups.callback(hashing.pool.close)

        secret = settings.gateway_secret.get_secret_value() if settings.gateway_secret else None
        addresses = ClientAddresses(secret)
        authenticator = Authenticator(
            repository.tenancy.find_key,
            tenant_caller,
            now,
            settings.key_cache_seconds,
            addresses.address_of,
        )
        names = ["", SERVICE.full_name, *([ADMIN_SERVICE.full_name] if settings.admin_address else [])]
        health = Health(names)
        calls = Calls() if tcp_connections.is_supported() else None
        admissions = [Admission(settings.max_calls)]
        boundary = Boundary(
            repository=repository,
            authenticator=authenticator,
            clock=now,
            addresses=addresses,
            admission=admissions[0],
            rate_limits=RateLimits(settings.rate_limit, settings.organization_rate_limit),
            rejections=Rejections(addresses.is_gateway),
            client_certificates=settings.tls_client_ca is not None,
            refuses_calls=lambda: health.calls_refused,
            calls=calls,
            quotas=settings.quotas(),
            tracer=tracer,
        )
        rpcs = _rpcs(settings, repository, hashing, now)
        handlers = boundary.handlers(SERVICE, rpcs)
        if secret is not None:
            gateways = GatewayAuthenticator(secret, addresses.address_of)
            handlers = {**handlers, **_gateway_handlers(settings, repository, now, gateways)}
        services = [(settings.grpc_address, SERVICE, handlers)]
        if settings.admin_address:
            # A limit of its own: load from tenants does not lock the operator out.
            admissions.append(Admission(settings.max_calls))
            handlers = _admin_handlers(settings, repository, hashing.pool, now, admissions[1], calls, tracer)
            services.append((settings.admin_address, ADMIN_SERVICE, handlers))
        updates = HealthUpdates(repository, health, watch)
        await updates.update()
        servers: list[Server] = []
        cleanups.push_async_callback(_stop_servers, servers, settings.drain_seconds)
        bound = []
        for address, service, handlers in services:
            # gRPC shares ports by default: a second server on this one would start, and receive half of the calls.
            options = (
                *_OPTIONS,
                ("grpc.max_concurrent_streams", settings.max_streams),
                ("grpc.max_allowed_incoming_connections", settings.max_grpc_connections),
                ("grpc.so_reuseport", int(settings.processes > 1)),
            )
            served = {**handlers, **health.handlers()}
            if settings.grpc_reflection:
                served |= reflection_handlers((service.full_name, HEALTH_SERVICE.full_name))
            server = Server(served, options, calls)
            bound.append(f"{address.rpartition(':')[0]}:{_bind(server, address, certificates)}")
            await server.start()
            servers.append(server)
        gauges = list(_sampled_gauges(admissions))
        if calls is not None:
            guard = ConnectionGuard(calls, _max_connections(bound, settings))
            guarding = asyncio.create_task(guard.run())
            cleanups.callback(guarding.cancel)
            gauges.append((GRPC_CONNECTIONS.labels(), lambda: guard.connections))
        else:
            log.warning("gRPC connections are not guarded against floods: this needs Linux")
        await cleanups.enter_async_context(sampling(gauges))
        health_updates = asyncio.create_task(updates.run(stop))
        cleanups.callback(health_updates.cancel)
        loading = asyncio.create_task(
            asyncio.to_thread(load_tables)
        )  # otherwise the first CreateDomain would load them
        cleanups.callback(loading.cancel)
        ready(*bound)
        await _until_stopped(servers, stop)
        log.info("draining")
        health.stop()
        # Stopping a server cancels the calls that it has accepted but not dispatched: let clients switch before that.
        await asyncio.sleep(min(HEALTH_PROPAGATION_SECONDS, settings.drain_seconds))
        # Cancelling a database ping could leave a driver's thread behind that keeps the process alive: let it finish.
        await asyncio.wait({health_updates}, timeout=settings.drain_seconds)


async def _until_stopped(servers: Sequence[Server], stop: asyncio.Event) -> None:
    """Return once `stop` is set. Raises RuntimeError if a server ends by itself, rather than run without it."""
    stopped = asyncio.create_task(stop.wait())
    ended = [asyncio.create_task(server.wait_for_termination()) for server in servers]
    await asyncio.wait([stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()  # but none of `ended`: that would cancel what the server's own stop waits for
    if not stop.is_set():
        raise RuntimeError("a gRPC server has ended by itself")


async def _stop_servers(servers: Sequence[Server], drain_seconds: float) -> None:
    await asyncio.gather(*(server.stop(drain_seconds) for server in servers))


def _admin_handlers(
    settings: Settings,
    repository: Repository,
    pool: CpuPool,
    clock: Callable[[], datetime],
    admission: Admission,
    calls: Calls | None,
    tracer: "Tracer | None",
) -> Handlers:
    authenticator = Authenticator(repository.admin_keys.find, operator_caller, clock, settings.key_cache_seconds)
    servicer = AdminServicer(
        administration=repository.administration,
        audit=repository.audit,
        policy=settings.lifecycle_policy(),
        clock=clock,
    )
    boundary = Boundary(
        repository=repository,
        authenticator=authenticator,
        clock=clock,
        admission=admission,
        client_certificates=settings.tls_client_ca is not None,
        calls=calls,
        tracer=tracer,
    )
    searching = AdminSearchServicer(
        mailboxes=repository.mailboxes,
        domains=repository.domains,
        administration=repository.administration,
        urls=_urls(settings),
    )
    history = AdminHistoryServicer(administration=repository.administration)
    dkim = AdminDkimServicer(
        rotations=repository.dkim_rotations,
        pool=pool,
        selector=settings.dkim_selector,
        bits=int(settings.dkim_bits),
        overlap=settings.dkim_overlap,
        clock=clock,
    )
    servicers = (servicer, searching, history, dkim)
    return boundary.handlers(ADMIN_SERVICE, {name: rpc for each in servicers for name, rpc in each.rpcs().items()})


def _gateway_handlers(
    settings: Settings, repository: Repository, clock: Callable[[], datetime], authenticator: GatewayAuthenticator
) -> Handlers:
    boundary = Boundary(
        repository=repository,
        authenticator=authenticator,
        clock=clock,
        admission=Admission(MAX_CALLS),
        client_certificates=settings.tls_client_ca is not None,
    )
    return boundary.handlers(GATEWAY_SERVICE, GatewayServicer(repository.domains, _urls(settings)).rpcs())


def _rpcs(
    settings: Settings, repository: Repository, hashing: PasswordHashing, clock: Callable[[], datetime]
) -> dict[str, Rpc]:
    policy = settings.lifecycle_policy()
    limits = ListLimits()
    domains = DomainServicer(
        domains=repository.domains,
        tenancy=repository.tenancy,
        pool=hashing.pool,
        hosts=mail_hosts(settings),
        reserved=_reserved_names(settings),
        urls=_urls(settings),
        dkim_selector=settings.dkim_selector,
        dkim_bits=int(settings.dkim_bits),
        limits=limits,
        policy=policy,
        quotas=settings.quotas(),
        clock=clock,
        min_validation_interval=MIN_VALIDATION_INTERVAL if settings.domain_validation == "dns" else timedelta(0),
    )
    mailboxes = MailboxServicer(
        mailboxes=repository.mailboxes,
        domains=repository.domains,
        hashing=hashing,
        limits=limits,
        policy=policy,
        clock=clock,
    )
    aliases = AliasServicer(aliases=repository.aliases, policy=policy, quotas=settings.quotas(), clock=clock)
    forwardings = ForwardingServicer(forwardings=repository.forwardings, policy=policy, clock=clock)
    return {**domains.rpcs(), **mailboxes.rpcs(), **aliases.rpcs(), **forwardings.rpcs()}


def _sampled_gauges(admissions: Sequence[Admission]) -> Iterator[tuple[Settable, Callable[[], float]]]:
    """Yield the gauges of calls in progress, with the functions that read their values."""

    def in_progress(kind: str) -> int:
        return sum(admission.in_progress(kind) for admission in admissions)

    for kind in CALL_KINDS:
        yield CALLS_IN_PROGRESS.labels(kind), partial(in_progress, kind)


def _max_connections(addresses: Sequence[str], settings: Settings) -> Mapping[int, int]:
    """Return the maximum number of connections by port."""
    ports = Counter(int(address.rpartition(":")[2]) for address in addresses)
    return {port: number * settings.max_grpc_connections for port, number in ports.items()}


def _replica(settings: Settings) -> ReplicaUrl | None:
    url = settings.database_replica_url
    if url is None:
        return None
    return ReplicaUrl(url=url.get_secret_value(), max_staleness_seconds=settings.replica_staleness_seconds)


def _password_hashing(settings: Settings) -> PasswordHashing:
    hasher = argon2.PasswordHasher(
        time_cost=settings.argon2_time_cost,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
    )
    pool = CpuPool(
        threads=settings.hash_threads or default_threads(settings.processes),
        max_wait_seconds=settings.hash_wait_seconds,
        task_seconds=estimated_hash_seconds(hasher),
    )
    return PasswordHashing(pool, hasher)


def mail_hosts(settings: Settings) -> MailHosts:
    """Return the target hosts and policies of domains' DNS records."""
    return MailHosts(
        mx=settings.mx_host,
        imap=settings.imap_host,
        pop3=settings.pop3_host,
        submission=settings.smtp_host,
        caldav=settings.caldav_host,
        carddav=settings.carddav_host,
        autoconfig=settings.autoconfig_host,
        autodiscover=settings.autodiscover_host,
        spf_include=settings.spf_include,
        spf_policy=settings.spf_policy,
        dmarc_policy=settings.dmarc_policy,
        validation_label=settings.domain_validation_label,
        validation_prefix=settings.domain_validation_prefix,
    )


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


def _bind(server: Server, address: str, certificates: Reloading | None) -> int:
    try:
        if certificates is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, grpc_server_credentials(certificates))
    except RuntimeError:
        port = 0
    if port == 0:
        raise OSError(f"can't listen for gRPC on {address}: the address is in use, or is not one of this machine")
    return port
