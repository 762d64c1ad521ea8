"""Certificates for tests, of authorities that exist as long as the test."""

import ssl
from datetime import datetime
from pathlib import Path

import trustme

from postroomd.tls import PemFiles


class Authority:
    """A certificate authority that writes certificates into a directory."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self.path = directory / "ca.pem"
        self.path.write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self._authority.cert_pem.bytes()

    def issue(
        self, name: str, *identities: str, common_name: str | None = None, not_after: datetime | None = None
    ) -> PemFiles:
        """Write certificate and key as NAME.pem and NAME.key, over those of the same name, if any."""
        issued = self._authority.issue_cert(*identities, common_name=common_name, not_after=not_after)
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return PemFiles(cert, key)

    def client_context(self, own: PemFiles | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority only."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if own is not None and own.cert is not None:
            context.load_cert_chain(own.cert, own.key)
        return context
