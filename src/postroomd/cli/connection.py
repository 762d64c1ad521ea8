"""Connections of the commands to a running service, as a tenant or as its operator."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from postroomd.cli.errors import CommandFailed, explain_call
from postroomd.cli.exit_codes import ExitCode
from postroomd.cli.output import waiting
from postroomd.cli.unreachable import PLAIN_TEXT, Cause, cause_of
from postroomd.cli.unreachable import TLS as TLS_ENCRYPTED
from postroomd.net import connectable, is_loopback
from postroomd.settings import InvalidSetting, Settings, flag, variable

if TYPE_CHECKING:
    import grpc

    from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceStub
    from postroom.client import TLS
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

TENANT_SECRET = "SCW_SECRET_KEY"  # noqa: S105 - the variable's name
ADMIN_SECRET = "POSTROOM_ADMIN_SECRET"  # noqa: S105 - likewise
CONNECT_SECONDS = 1.0
RESTART_SECONDS = 9.0  # further ones, for a connection that a restart of the service may be in the way of
CAUSE_SECONDS = 1.0
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


@contextmanager
def tenant_service(settings: Settings, *, idempotency_keys: bool = True) -> Iterator["MailboxServiceStub"]:
    """Connect to the service with the API key of SCW_SECRET_KEY. Raises InvalidSetting and CommandFailed.

    With `idempotency_keys`, every call that changes something has a random one, so that it can be retried.
    """
    secret = (TENANT_SECRET, "postroom keys create")
    with _channel(
        settings, "grpc_address", settings.grpc_address, *secret, idempotency_keys=idempotency_keys
    ) as channel:
        from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

        yield MailboxServiceStub(channel)


@contextmanager
def admin_service(settings: Settings) -> Iterator["AdminServiceStub"]:
    """Connect to the admin service with the key of POSTROOM_ADMIN_SECRET. Raises InvalidSetting and CommandFailed."""
    if settings.admin_address is None:
        raise InvalidSetting(
            f"{flag('admin_address')}: set it, or {variable('admin_address')}, to the address of the admin service,"
            " which `postroom serve` and `up` have under the same name"
        )
    secret = (ADMIN_SECRET, "postroom admin-keys create")
    with _channel(settings, "admin_address", settings.admin_address, *secret) as channel:
        from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceStub

        yield AdminServiceStub(channel)


def _secret(name: str, command: str) -> str:
    secret = os.environ.get(name, "").strip()
    if not secret:
        raise CommandFailed(f"{name}: set it to the secret of a key, which `{command}` prints", ExitCode.DENIED)
    if not secret.isascii() or not secret.isprintable():
        raise CommandFailed(f"{name}: expected the secret of a key, a UUID", ExitCode.DENIED)
    return secret


@contextmanager
def _channel(
    settings: Settings, option: str, listening: str, secret_name: str, command: str, *, idempotency_keys: bool = True
) -> Iterator["grpc.Channel"]:
    from postroom.client import channel, decode_error

    secret = _secret(secret_name, command)
    address = connectable(listening)
    tls = _tls(settings, address)
    import grpc

    insecure = tls is None
    with channel(address, secret, tls=tls, insecure=insecure, idempotency_keys=idempotency_keys) as connection:
        _require_connection(connection, option, address, PLAIN_TEXT if insecure else TLS_ENCRYPTED)
        try:
            yield connection
        except grpc.RpcError as error:
            line, code = explain_call(decode_error(error))
            if code is not ExitCode.DENIED:
                raise
            raise CommandFailed(f"{secret_name}: {line}", code) from error


def _require_connection(connection: "grpc.Channel", option: str, address: str, how: str) -> None:
    """Wait until a channel is connected, also to a service that restarts. Raises CommandFailed, with the cause."""
    cause = _failure(connection, how, CONNECT_SECONDS)
    if cause and cause.may_pass:
        with waiting(f"no connection to {address} yet: {cause.text}"):
            cause = _failure(connection, how, RESTART_SECONDS)
    if cause:
        raise CommandFailed(f"{flag(option)}: can't connect to {address} {how}: {cause.text}", ExitCode.UNAVAILABLE)


def _failure(connection: "grpc.Channel", how: str, seconds: float) -> Cause | None:
    """Wait until a channel is connected. Returns why it is not in time, as far as gRPC tells it, or None."""
    import grpc

    # Any response means that there is a connection. Only a call that does not wait fails with the cause.
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = connection.unary_unary(HEALTH_CHECK)
    details = None
    for waits, timeout in ((True, seconds), (False, CAUSE_SECONDS)):
        try:
            check(b"", timeout=timeout, wait_for_ready=waits)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                details = error.details() or ""
                continue
        return None
    return cause_of(details or "", how)


def _tls(settings: Settings, address: str) -> "TLS | None":
    """Return how to encrypt the connection; None for plain text: on this machine without certificates, or --insecure.

    Other machines are verified by the authorities that gRPC ships, unless --grpc-tls-ca is set.
    """
    from postroom.client import TLS

    options = ("grpc_tls_ca", "grpc_tls_key", "grpc_tls_cert")
    files: list[Path | None] = [getattr(settings, option) for option in options]
    if not any(files):
        if settings.insecure or is_loopback(address):
            return None
        return TLS(server_name=settings.grpc_tls_server_name)
    read = [None if path is None else _pem(option, path) for option, path in zip(options, files, strict=True)]
    return TLS(
        root_certificates=read[0],
        private_key=read[1],
        certificate_chain=read[2],
        server_name=settings.grpc_tls_server_name,
    )


def _pem(option: str, path: Path) -> bytes:
    """Return a file in PEM format. Raises InvalidSetting; gRPC would only report that it can't connect."""
    try:
        read = path.read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{flag(option)}: can't read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in read:
        raise InvalidSetting(f"{flag(option)}: {path} is not in PEM format")
    return read
