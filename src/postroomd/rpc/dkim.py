"""DKIM key pairs (RFC 6376): RSA with 1024 or 2048 bits."""

import base64
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DkimKey:
    """An RSA key pair: the private key as PKCS #8 PEM, the public key as base64 for the DNS record's `p=` tag."""

    private_pem: str
    public_base64: str

    def __repr__(self) -> str:
        return "DkimKey(…)"


def generate_dkim_key(bits: int = 2048) -> DkimKey:
    """Return a new key pair. It is CPU-bound (2048 bits: about 50 ms), and releases the interpreter lock."""
    # Imported on first use: 7 MB of memory and a large part of the start-up time.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return DkimKey(private.decode(), base64.b64encode(public).decode())
