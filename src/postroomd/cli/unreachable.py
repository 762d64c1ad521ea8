"""Why a connection could not be made, from gRPC's text about it, and what to do."""

from collections.abc import Sequence
from typing import NamedTuple

PLAIN_TEXT, TLS = "in plain text", "over TLS"


class Cause(NamedTuple):
    """Why there is no connection, with the way out."""

    text: str
    may_pass: bool
    """Whether it may end by itself, as when the service restarts."""


class _Rule(NamedTuple):
    """The cause that any of some parts of gRPC's text tells."""

    parts: Sequence[str]
    text: str
    may_pass: bool = False
    only: str | None = None
    """PLAIN_TEXT or TLS if it is the cause for one kind of connection only."""


# A server that closes with octets unread resets the connection: it depends on the moment which of both is seen.
_CLOSED = ("Socket closed", "Connection reset")

_RULES: Sequence[_Rule] = (
    _Rule(
        ("errors resolving", "DNS resolution failed"),
        "the host name is unknown: check its spelling, and the DNS of this machine",
    ),
    _Rule(("Connection refused",), "nothing listens there: check that the service runs, and the port", may_pass=True),
    _Rule(("unreachable",), "this machine has no route to it: check the address and the network", may_pass=True),
    _Rule(("http1.x",), "an HTTP/1 server responds: check the port, which may be that of the gateway"),
    _Rule(
        ("WRONG_VERSION_NUMBER",),
        "the server does not speak TLS: check the port; plain text is without --grpc-tls-ca, or with --insecure true",
    ),
    _Rule(
        ("Hostname Verification",),
        "the certificate is for another name: set --grpc-tls-server-name to a name that it has",
    ),
    _Rule(
        ("certificate has expired",),
        "the certificate of the service, or of its authority, has expired: renew it, or check this machine's clock",
    ),
    _Rule(
        ("CERTIFICATE_VERIFY_FAILED",),
        "the certificate is not by a trusted authority: set --grpc-tls-ca to the authority of the service",
    ),
    _Rule(
        _CLOSED,
        "the server closes the connection: it may require TLS, for which --grpc-tls-ca is",
        may_pass=True,
        only=PLAIN_TEXT,
    ),
    _Rule(
        _CLOSED,
        "the server closes the connection: it may require a client certificate, --grpc-tls-cert and --grpc-tls-key",
        may_pass=True,
        only=TLS,
    ),
    _Rule(("Deadline Exceeded",), "nothing responds: check the address, and firewalls between", may_pass=True),
)


def cause_of(details: str, how: str) -> Cause:
    """Return the cause. `how` is PLAIN_TEXT or TLS; an unknown cause is gRPC's own text, and may pass."""
    for rule in _RULES:
        if any(part in details for part in rule.parts) and rule.only in {None, how}:
            return Cause(rule.text, rule.may_pass)
    return Cause(f"{details or 'no cause is known'}: check that the service runs there, and --grpc-tls-ca", True)
