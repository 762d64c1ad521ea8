"""API keys and admin keys: the forms of their parts, and the digest of a secret."""

import hashlib
import re

ACCESS_KEY_PREFIX = "SCW"
ACCESS_KEY_RANDOM = 17  # characters after the prefix
ACCESS_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
ACCESS_KEY = re.compile(rf"{ACCESS_KEY_PREFIX}[A-Z0-9]{{{ACCESS_KEY_RANDOM}}}")
"""The form of an access key, which the SDKs check too."""

ADMIN_KEY_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""The form of an admin key's name, which appears in the history and in log lines."""

_SECRET = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 digest, 32 octets, of a key's secret: a UUID, hashed as lower-case text.

    A plain digest suffices, because a random UUID has 122 random bits. Raises ValueError for anything but a UUID; its
    message does not contain the secret.
    """
    canonical = secret.lower()
    if not _SECRET.fullmatch(canonical):
        raise ValueError("a secret must be a UUID")
    return hashlib.sha256(canonical.encode("ascii")).digest()
