"""Certificates for processes with TLS, of an authority that exists as long as a row."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate for loopback, its key, and the authority that issued it."""

    ca: Path
    cert: Path
    key: Path

    @property
    def service(self) -> Mapping[str, str]:
        """The settings of a service with TLS."""
        return {"POSTROOM_TLS_CERT": str(self.cert), "POSTROOM_TLS_KEY": str(self.key)}

    @property
    def gateway(self) -> Mapping[str, str]:
        """The settings of a gateway with HTTPS, and with TLS to its service."""
        https = {"POSTROOM_HTTP_TLS_CERT": str(self.cert), "POSTROOM_HTTP_TLS_KEY": str(self.key)}
        return {**https, "POSTROOM_GRPC_TLS_CA": str(self.ca)}

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client that trusts the authority."""
        return ssl.create_default_context(cafile=self.ca)


def issue(directory: Path) -> Certificates:
    """Write a certificate for loopback into a directory. Its key is on an elliptic curve, as trustme makes them."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificates = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    authority.cert_pem.write_to_path(certificates.ca)
    certificates.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(certificates.key)
    return certificates
