"""Checks of the processes around a database: service, gateway and worker, clock, work that is due, certificates."""

import asyncio
import http.client
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from postroomd.domain.clock_leaps import ClockReading, find_database_leap, find_leap, reference_at_start
from postroomd.domain.diagnosis import Condition, Finding
from postroomd.net import connectable, split_address
from postroomd.runtime.security import channel_files, gateway_files, service_files
from postroomd.settings import Settings
from postroomd.storage.protocols.clocks import ClockRecords
from postroomd.storage.protocols.work import Due
from postroomd.tls import CertificateError, PemFiles, load

TIMEOUT_SECONDS = 5.0
MAX_HEARTBEAT_AGE = timedelta(minutes=1)  # workers store one every ten seconds
MAX_LAG = timedelta(minutes=10)
EXPIRY_WARNING = timedelta(days=14)
NOT_SERVING_REASON = "x-not-serving-reason"


async def check_service(settings: Settings) -> Finding:
    """Ask the service for its health over gRPC."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = connectable(settings.grpc_address)
    try:
        files = channel_files(settings) or (PemFiles(ca=settings.tls_cert) if settings.tls_cert else None)
        pem = None if files is None else await asyncio.to_thread(load, files)
    except CertificateError as error:
        return _error("service", str(error), "correct the files of --grpc-tls-ca, --grpc-tls-cert and --grpc-tls-key")
    name = settings.grpc_tls_server_name
    options = [("grpc.enable_http_proxy", 0), *([("grpc.ssl_target_name_override", name)] if name else [])]
    channel: grpc.aio.Channel
    if pem is None:
        channel = grpc.aio.insecure_channel(address, options=options)
    else:
        credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
        channel = grpc.aio.secure_channel(address, credentials, options=options)
    async with channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        call = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        try:
            status = (await call).status
        except grpc.aio.AioRpcError as error:
            remedy = "start `postroom serve`, or set --grpc-address to where it listens"
            return _error("service", f"{address} does not respond: {error.code().name}", remedy)
        if status == health_pb2.HealthCheckResponse.SERVING:
            return Finding(check="service", condition=Condition.OK, detail=f"{address} serves")
        reason = {str(key): value for key, value in await call.trailing_metadata() or ()}.get(NOT_SERVING_REASON)
        detail = f"{address} does not serve" + (f": {reason}" if reason else "")
        return _error("service", detail, "its log has the cause; a service that starts or stops serves in a moment")


def check_gateway(settings: Settings) -> Finding:
    """Ask the gateway for its readiness over HTTP. Blocks: run it in a thread."""
    address = connectable(settings.http_address)
    if settings.http_tls_client_ca is not None:
        detail = f"{address} is not examined, since it requires a client certificate"
        return Finding(check="gateway", condition=Condition.OK, detail=detail)
    host, port = split_address(address)
    if settings.http_tls_cert is None:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    else:
        # Whether the process lives does not depend on whether this machine trusts its certificate.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(1_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        remedy = "start `postroom gateway`, or set --http-address to where it listens"
        return _error("gateway", f"{address} does not respond: {error}", remedy)
    finally:
        connection.close()
    if response.status == 200:
        return Finding(check="gateway", condition=Condition.OK, detail=f"{address} serves")
    return _error("gateway", f"{address} is not ready: {body}", "check the service behind it, and its --grpc-address")


def check_worker(records: ClockRecords, now: datetime) -> Finding:
    """Compare the latest heartbeat of a worker with the time."""
    if not records.heartbeats:
        return _error("worker", "no worker has run on this database", "start `postroom worker`")
    age = now - records.heartbeats[0].trusted_at
    seconds = max(0, round(age.total_seconds()))
    if age > MAX_HEARTBEAT_AGE:
        return _error("worker", f"the last heartbeat is {seconds} s old", "start `postroom worker`, or read its log")
    return Finding(check="worker", condition=Condition.OK, detail=f"the last heartbeat is {seconds} s old")


def check_clock(settings: Settings, reading: ClockReading, records: ClockRecords) -> Finding:
    """Compare this machine's clock with the time since boot, the heartbeats and the database's server."""
    limits = settings.leap_limits()
    reference = reference_at_start(reading, records.heartbeats, records.acceptance)
    leap = find_leap(reading, reference, limits)
    if leap is None and records.database_time:
        leap = find_database_leap(reading, reference, records.database_time, records.acceptance, limits)
    remedy = "set the clock, or run `postroom clock accept` if it is right"
    if leap is not None or any(each.leapt_to for each in records.heartbeats):
        whose = "this machine's clock" if leap is not None else "the clock of a worker"
        return _error("clock", f"{whose} has leapt: workers pause", remedy)
    return Finding(check="clock", condition=Condition.OK, detail=f"{reading.time:%Y-%m-%d %H:%M:%S}Z is trusted")


def check_backlog(due: Due, now: datetime) -> Finding:
    """Compare the earliest due dates with the time."""
    lag = max([timedelta(0), *(now - instant for instant in (due.steps, due.lookups) if instant)])
    if lag <= MAX_LAG:
        return Finding(check="backlog", condition=Condition.OK, detail="no work is long overdue")
    detail = f"the oldest due work has been overdue for {round(lag.total_seconds())} s"
    remedy = "look for `step failed` in the worker's log; on PostgreSQL, add a worker"
    return Finding(check="backlog", condition=Condition.WARNING, detail=detail, remedy=remedy)


def check_certificates(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Yield a finding for each certificate that the settings name."""
    purposes = {
        "grpc certificate": service_files(settings),
        "https certificate": gateway_files(settings),
        "gateway's client certificate": channel_files(settings),
    }
    for check, files in purposes.items():
        if files is None:
            continue
        try:
            expires_at = load(files).expires_at
        except CertificateError as error:
            yield _error(check, str(error), "replace the file; it is read again without a restart")
            continue
        if expires_at is not None:
            yield _expiry(check, expires_at, now)


def _expiry(check: str, expires_at: datetime, now: datetime) -> Finding:
    detail = f"valid until {expires_at:%Y-%m-%d %H:%M}Z"
    remedy = "renew it; its files are read again without a restart"
    if expires_at <= now:
        return _error(check, f"expired at {expires_at:%Y-%m-%d %H:%M}Z", remedy)
    if expires_at - now < EXPIRY_WARNING:
        return Finding(check=check, condition=Condition.WARNING, detail=detail, remedy=remedy)
    return Finding(check=check, condition=Condition.OK, detail=detail)


def _error(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check=check, condition=Condition.ERROR, detail=detail, remedy=remedy)


def database_error(detail: str) -> Sequence[Finding]:
    """Return the finding on a database that can't be opened."""
    remedy = "start the database, or correct --database-url; `postroom migrate` creates or upgrades it"
    return [_error("database", detail, remedy)]
