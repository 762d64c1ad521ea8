"""TLS: certificates from PEM files, and their reload when the files change."""

from postroomd.tls.files import CertificateError, Certificates, PemFiles, certificate_name, load
from postroomd.tls.reload import Reloading
from postroomd.tls.server import grpc_server_credentials, http_context

__all__ = [
    "CertificateError",
    "Certificates",
    "PemFiles",
    "Reloading",
    "certificate_name",
    "grpc_server_credentials",
    "http_context",
    "load",
]
