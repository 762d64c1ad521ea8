"""The certificates of the service and the gateway, and of those who call the service."""

from pathlib import Path
from typing import Self

from pydantic import model_validator

from postroomd.settings.base import CLIENT, GATEWAY, NEW_KEY, SERVICE, SettingsGroup, flag, setting
from postroomd.settings.types import HostName


class CertificateSettings(SettingsGroup):
    """The certificates of the service and the gateway, and of those who call the service."""

    tls_cert: Path | None = setting(
        None,
        (*SERVICE, "doctor"),
        "Certificate chain of the gRPC services in PEM format, which enables TLS; read again when it changes.",
    )
    tls_key: Path | None = setting(
        None, (*SERVICE, "doctor"), "Private key of `--tls-cert` in PEM format, without passphrase."
    )
    tls_client_ca: Path | None = setting(
        None, SERVICE, "Authorities of client certificates in PEM format; every gRPC client must then present one."
    )
    grpc_tls_ca: Path | None = setting(
        None,
        (*GATEWAY, *CLIENT),
        "Authorities of the service's certificate in PEM format, which enables TLS from the gateway to the service;"
        " `up` uses the certificate itself.",
    )
    grpc_tls_cert: Path | None = setting(
        None,
        (*GATEWAY, *CLIENT),
        "Certificate chain of the gateway in PEM format, for a service with `--tls-client-ca`.",
    )
    grpc_tls_key: Path | None = setting(
        None, (*GATEWAY, *CLIENT), "Private key of `--grpc-tls-cert` in PEM format, without passphrase."
    )
    grpc_tls_server_name: HostName | None = setting(
        None,
        (*GATEWAY, *CLIENT),
        "Name in the service's certificate, where it is not the host of `--grpc-address`.",
    )
    http_tls_cert: Path | None = setting(
        None,
        (*GATEWAY, *NEW_KEY, "doctor"),
        "Certificate chain of the REST gateway in PEM format, which enables HTTPS.",
    )
    http_tls_key: Path | None = setting(
        None, (*GATEWAY, *NEW_KEY, "doctor"), "Private key of `--http-tls-cert` in PEM format, without passphrase."
    )
    http_tls_client_ca: Path | None = setting(
        None,
        (*GATEWAY, "doctor"),
        "Authorities of client certificates in PEM format; every REST client must then present one.",
    )

    @model_validator(mode="after")
    def _validate_certificates(self) -> Self:
        """Raise ValueError for a certificate without its key, and for options without the certificate they extend."""
        for certificate in ("tls_cert", "grpc_tls_cert", "http_tls_cert"):
            key = certificate.removesuffix("cert") + "key"
            if (getattr(self, certificate) is None) != (getattr(self, key) is None):
                raise ValueError(f"{flag(certificate)} and {flag(key)} belong together: set both or neither")
        for option, needed in (
            ("tls_client_ca", "tls_cert"),
            ("http_tls_client_ca", "http_tls_cert"),
        ):
            if getattr(self, option) is not None and getattr(self, needed) is None:
                raise ValueError(f"{flag(option)} needs {flag(needed)}: client certificates are part of TLS")
        return self
