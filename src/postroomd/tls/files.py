"""Certificates in PEM files, checked when they are read."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


class CertificateError(Exception):
    """Certificates that can't be used. The text is one line for the operator, and names the file."""


@dataclass(frozen=True, slots=True)
class PemFiles:
    """One side's own certificate chain with its private key, and the authorities that it trusts; each may be absent."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are set."""
        return tuple(path for path in (self.cert, self.key, self.ca) if path is not None)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The contents of PemFiles. `expires_at` is the end of the certificate's validity, None without a certificate."""

    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    ca: bytes | None = None
    expires_at: datetime | None = None


def load(files: PemFiles) -> Certificates:
    """Read and check the files: PEM, a key without passphrase, and one that belongs to the certificate.

    Raises CertificateError.
    """
    cert, key, ca = (None if path is None else _read(path) for path in (files.cert, files.key, files.ca))
    expires_at = None
    if files.cert is not None and cert is not None:
        leaf = _certificates(files.cert, cert)[0]
        expires_at = leaf.not_valid_after_utc
        if files.key is not None and key is not None:
            _check_key(files.key, key, leaf)
    if files.ca is not None and ca is not None:
        _certificates(files.ca, ca)
    return Certificates(cert, key, ca, expires_at)


def certificate_name(path: Path) -> str:
    """Return a host name or an IP address that the certificate in a PEM file is valid for. Raises CertificateError."""
    from cryptography import x509

    leaf = _certificates(path, _read(path))[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    for name in names:
        if isinstance(name, x509.DNSName):
            return name.value.replace("*", "any")
        if isinstance(name, x509.IPAddress):
            return str(name.value)
    raise CertificateError(f"{path}: the certificate names no host: it needs a subject alternative name")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None


def _certificates(path: Path, pem: bytes) -> "list[Certificate]":
    from cryptography import x509  # slow to import, and rarely needed

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(f"{path}: expected certificates in PEM format") from None


def _check_key(path: Path, pem: bytes, leaf: "Certificate") -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise CertificateError(f"{path}: the private key has a passphrase: store it without one") from None
    except ValueError:
        raise CertificateError(f"{path}: expected a private key in PEM format") from None
    if key.public_key() != leaf.public_key():
        raise CertificateError(f"{path}: the private key does not belong to the certificate")
