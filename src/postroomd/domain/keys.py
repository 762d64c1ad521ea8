"""API keys: the forms of their two halves, and the digest that stands for a secret."""

import hashlib
import re

ACCESS_KEY_PREFIX = "SCW"
ACCESS_KEY_RANDOM = 17  # characters after the prefix
ACCESS_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
ACCESS_KEY = re.compile(rf"{ACCESS_KEY_PREFIX}[A-Z0-9]{{{ACCESS_KEY_RANDOM}}}")
"""The form of an access key, as its SDKs check it."""

ADMIN_KEY_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""The form of an admin key's name: it stands in the history and in log lines."""

_SECRET = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def hash_secret(secret: str) -> bytes:
    """The SHA-256 digest, 32 octets, of a key's secret: a UUID, hashed as lower-case text.

    A plain digest is enough: a random UUID can't be guessed from it. Raises ValueError for what is no UUID; the
    text doesn't repeat it.
    """
    canonical = secret.lower()
    if not _SECRET.fullmatch(canonical):
        raise ValueError("a secret is a UUID")
    return hashlib.sha256(canonical.encode("ascii")).digest()
