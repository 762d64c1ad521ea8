"""Why a connection could not be made, from gRPC's text about it, and what to do."""

from collections.abc import Sequence

PLAIN_TEXT, TLS = "in plain text", "over TLS"

_CAUSES: Sequence[tuple[str, str | None, str]] = (
    ("errors resolving", None, "the host name is unknown: check its spelling, and the DNS of this machine"),
    ("DNS resolution failed", None, "the host name is unknown: check its spelling, and the DNS of this machine"),
    ("Connection refused", None, "nothing listens there: check that the service runs, and the port"),
    ("unreachable", None, "this machine has no route to it: check the address and the network"),
    ("http1.x", None, "an HTTP/1 server responds: check the port, which may be that of the gateway"),
    (
        "WRONG_VERSION_NUMBER",
        None,
        "the server does not speak TLS: check the port; plain text is without --grpc-tls-ca, or with --insecure true",
    ),
    (
        "Hostname Verification",
        None,
        "the certificate is for another name: set --grpc-tls-server-name to a name that it has",
    ),
    (
        "certificate has expired",
        None,
        "the certificate of the service, or of its authority, has expired: renew it, or check this machine's clock",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        None,
        "the certificate is not by a trusted authority: set --grpc-tls-ca to the authority of the service",
    ),
    ("Socket closed", PLAIN_TEXT, "the server closes the connection: it may require TLS, for which --grpc-tls-ca is"),
    (
        "Socket closed",
        TLS,
        "the server closes the connection: it may require a client certificate, --grpc-tls-cert and --grpc-tls-key",
    ),
    ("Connection reset", None, "the server closes the connection: check the port, and whether it requires TLS"),
    ("Deadline Exceeded", None, "nothing responds: check the address, and firewalls between"),
)
"""A part of gRPC's text, for which kind of connection (None: for both), and the cause with the way out."""


def cause_of(details: str, how: str) -> str:
    """Return the cause and the way out. `how` is PLAIN_TEXT or TLS; an unknown cause is gRPC's own text."""
    for part, only, cause in _CAUSES:
        if part in details and only in {None, how}:
            return cause
    return f"{details or 'no cause is known'}: check that the service runs there, and --grpc-tls-ca"
