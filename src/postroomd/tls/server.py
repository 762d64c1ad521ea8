"""Server sides of TLS: credentials of a gRPC server, and contexts of the HTTP server. Both accept TLS 1.2 and 1.3."""

import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from postroomd.tls.files import Certificates
from postroomd.tls.reload import Reloading

if TYPE_CHECKING:
    import grpc


def grpc_server_credentials(certificates: Reloading) -> "grpc.ServerCredentials":
    """Return credentials that follow the files. With authorities, clients must present a certificate."""
    import grpc  # not above: the supervisor, which forks, must not load it

    served = certificates.current

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Return the configuration for a new handshake; None while it is the one returned before."""
        nonlocal served
        if served is certificates.current:
            return None
        served = certificates.current
        return _configuration(served)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        changed,  # type: ignore[arg-type] # None is allowed
        require_client_authentication=served.ca is not None,
    )


def _configuration(certificates: Certificates) -> "grpc.ServerCertificateConfiguration":
    import grpc

    pair = (certificates.key or b"", certificates.cert or b"")
    return grpc.ssl_server_certificate_configuration([pair], certificates.ca)


def http_context(certificates: Reloading) -> Callable[[], ssl.SSLContext]:
    """Return a function that returns the context of a new connection. Contexts are made per reload, not per connection.

    With authorities, clients must present a certificate.
    """
    current = _context(certificates.current)

    def replace(renewed: Certificates) -> None:
        nonlocal current
        current = _context(renewed)

    certificates.add_listener(replace)
    return lambda: current


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # ssl reads files only. These hold what was checked, while the operator's may be changing.
    with tempfile.TemporaryDirectory(prefix="postroom-tls-") as directory:  # mode 0700
        cert, key = Path(directory, "cert.pem"), Path(directory, "key.pem")
        cert.write_bytes(certificates.cert or b"")
        key.write_bytes(certificates.key or b"")
        context.load_cert_chain(cert, key)
    if certificates.ca is not None:
        context.load_verify_locations(cadata=certificates.ca.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context
