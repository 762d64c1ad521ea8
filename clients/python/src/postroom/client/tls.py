"""How a channel is encrypted."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TLS:
    """The certificates of a channel, as PEM. gRPC accepts TLS 1.2 and 1.3.

    `root_certificates` are the authorities that may have signed the service's certificate; None means those that gRPC
    ships. `private_key` and `certificate_chain` are the client's own, for a service that requires client
    certificates: both or neither. `server_name` is the name to expect in the service's certificate where it differs
    from the host of the target, such as for an address.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.private_key is None) != (self.certificate_chain is None):
            raise ValueError("private_key and certificate_chain belong together: give both, or neither")

    @classmethod
    def from_files(
        cls, ca: Path | str | None = None, key: Path | str | None = None, cert: Path | str | None = None
    ) -> "TLS":
        """Return the certificates read from PEM files. Raises OSError for a file that cannot be read."""
        read = [None if path is None else Path(path).read_bytes() for path in (ca, key, cert)]
        return cls(root_certificates=read[0], private_key=read[1], certificate_chain=read[2])

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the channel credentials."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)
