"""Which addresses and connections use TLS, by the settings."""

from pathlib import Path

from postroomd.net import is_loopback
from postroomd.runtime.errors import FatalError
from postroomd.settings import Settings, UpSettings
from postroomd.tls import PemFiles, certificate_name


def service_files(settings: Settings) -> PemFiles | None:
    """Return the files of the gRPC services; None: plain text."""
    return _server_files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def gateway_files(settings: Settings) -> PemFiles | None:
    """Return the files of the REST gateway; None: plain HTTP."""
    return _server_files(settings.http_tls_cert, settings.http_tls_key, settings.http_tls_client_ca)


def channel_files(settings: Settings) -> PemFiles | None:
    """Return the files of the connections from the gateway to the service; None: plain text."""
    if settings.grpc_tls_ca is None and settings.grpc_tls_cert is None:
        return None
    return PemFiles(settings.grpc_tls_cert, settings.grpc_tls_key, settings.grpc_tls_ca)


def _server_files(cert: Path | None, key: Path | None, ca: Path | None) -> PemFiles | None:
    return None if cert is None else PemFiles(cert, key, ca)


def require_secure(settings: Settings, flag: str, address: str, files: PemFiles | None) -> None:
    """Raise FatalError for an address that other machines reach in plain text, unless that is allowed."""
    if files is not None or settings.insecure or is_loopback(address):
        return
    certificate = "--http-tls-cert and --http-tls-key" if flag == "--http-address" else "--tls-cert and --tls-key"
    raise FatalError(
        f"{flag}: {address} is reachable from other machines, and keys and passwords would cross the network in plain"
        f" text: set {certificate}, or --insecure behind a proxy that speaks TLS"
    )


def with_channel_security(settings: UpSettings) -> UpSettings:
    """Return the settings of `up` whose gateway trusts the certificate of the service next to it.

    Raises CertificateError, and FatalError if the service requires a client certificate that the gateway lacks.
    """
    if settings.tls_cert is None or settings.grpc_tls_ca is not None:
        return settings
    if settings.tls_client_ca is not None and settings.grpc_tls_cert is None:
        raise FatalError(
            "--tls-client-ca: the gateway needs a client certificate too: set --grpc-tls-cert and --grpc-tls-key"
        )
    name = settings.grpc_tls_server_name or certificate_name(settings.tls_cert)
    return settings.model_copy(update={"grpc_tls_ca": settings.tls_cert, "grpc_tls_server_name": name})
