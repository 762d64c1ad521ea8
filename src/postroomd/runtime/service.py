"""The service process: composes repository, servicers, health checks and gRPC servers, and runs them until stopped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import argon2

from postroomd.clock import Clock
from postroomd.clock_watch import ClockWatch
from postroomd.domain.domain_names import load_tables
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import CALL_KINDS, CALLS_IN_PROGRESS, GRPC_CONNECTIONS, Settable, sampling
from postroomd.rpc import tcp_connections
from postroomd.rpc.admission import Admission
from postroomd.rpc.connection_calls import Calls
from postroomd.rpc.connection_guard import ConnectionGuard
from postroomd.rpc.cpu_pool import CpuPool, default_threads
from postroomd.rpc.hashing import PasswordHashing, estimated_hash_seconds
from postroomd.rpc.health import SERVICE as HEALTH_SERVICE
from postroomd.rpc.health import Health
from postroomd.rpc.reflection import reflection_handlers
from postroomd.rpc.server import Server
from postroomd.runtime.database_locks import database_lock
from postroomd.runtime.grpc_servers import bind, stop_servers, until_stopped
from postroomd.runtime.handlers import ADMIN_SERVICE, MAILBOX_SERVICE, Apis
from postroomd.runtime.health import HealthUpdates
from postroomd.runtime.security import require_secure, service_files
from postroomd.runtime.tracing import tracing
from postroomd.settings import Settings
from postroomd.storage.migrations import require_current
from postroomd.storage.opening import ReplicaUrl, open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.secret_keys import SecretKeys
from postroomd.tls import Reloading

HEALTH_PROPAGATION_SECONDS = 0.5  # until clients that watch the health status send their calls elsewhere

log = get_logger()


async def serve(settings: Settings, stop: asyncio.Event, ready: Callable[..., None], clock: Clock) -> None:
    """Serve gRPC until `stop` is set, then drain. Calls `ready` with the bound HOST:PORT and that of the admin service.

    Raises SchemaMismatch, SecretKeyError, StorageUnavailable, FatalError, CertificateError, and OSError if an address
    can't be bound.
    """
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
        repository = await _open_repository(settings, traced=tracer is not None)
        cleanups.push_async_callback(repository.close)
        await repository.secrets.require_keys()
        watch = ClockWatch(clock, repository.clocks, settings.leap_limits(), is_worker=False)
        await watch.start()
        hashing = _password_hashing(settings)
        cleanups.callback(hashing.pool.close)

        calls = Calls() if tcp_connections.is_supported() else None
        apis = Apis(
            settings=settings, repository=repository, hashing=hashing, clock=watch.now, calls=calls, tracer=tracer
        )
        # Of each API its own: load from tenants does not lock the operator out.
        admissions = [Admission(settings.max_calls)]
        names = [MAILBOX_SERVICE.full_name, *([ADMIN_SERVICE.full_name] if settings.admin_address else [])]
        health = Health(["", *names])
        served = [(settings.grpc_address, apis.tenant_handlers(admissions[0], lambda: health.calls_refused))]
        if settings.admin_address:
            admissions.append(Admission(settings.max_calls))
            served.append((settings.admin_address, apis.admin_handlers(admissions[1])))
        updates = HealthUpdates(repository, health, watch)
        await updates.update()

        servers: list[Server] = []
        cleanups.push_async_callback(stop_servers, servers, settings.drain_seconds)
        bound = []
        for name, (address, handlers) in zip(names, served, strict=True):
            handlers = {**handlers, **health.handlers()}
            if settings.grpc_reflection:
                handlers |= reflection_handlers((name, HEALTH_SERVICE.full_name))
            server, bound_address = bind(address, handlers, settings, certificates, calls)
            await server.start()
            servers.append(server)
            bound.append(bound_address)
        gauges = list(_sampled_gauges(admissions))
        if calls is not None:
            guard = ConnectionGuard(calls, _max_connections(bound, settings))
            cleanups.callback(asyncio.create_task(guard.run()).cancel)
            gauges.append((GRPC_CONNECTIONS.labels(), lambda: guard.connections))
        else:
            log.warning("gRPC connections are not guarded against floods: this needs Linux")
        await cleanups.enter_async_context(sampling(gauges))
        health_updates = asyncio.create_task(updates.run(stop))
        cleanups.callback(health_updates.cancel)
        # Otherwise the first CreateDomain would load them.
        cleanups.callback(asyncio.create_task(asyncio.to_thread(load_tables)).cancel)
        ready(*bound)
        await until_stopped(servers, stop)
        log.info("draining")
        health.stop()
        # Stopping a server cancels the calls that it has accepted but not dispatched: let clients switch before that.
        await asyncio.sleep(min(HEALTH_PROPAGATION_SECONDS, settings.drain_seconds))
        # Cancelling a database ping could leave a driver's thread behind that keeps the process alive: let it finish.
        await asyncio.wait({health_updates}, timeout=settings.drain_seconds)


async def _open_repository(settings: Settings, *, traced: bool) -> Repository:
    url = settings.database_url.get_secret_value()
    await asyncio.to_thread(require_current, url)
    return await open_repository(
        url,
        owner=True,
        pool_size=settings.database_pool_size,
        replica=_replica(settings),
        statement_timeout_seconds=settings.statement_timeout_seconds,
        traced=traced,
        secret_keys=await asyncio.to_thread(SecretKeys, settings.secret_key_file),
    )


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
