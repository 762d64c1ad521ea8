"""The encryption of the private DKIM keys of every tenant's domains."""

from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.encryption import KeyCounts, Reencryption


class Secrets(Protocol):
    """The private DKIM keys as they are stored."""

    async def require_keys(self) -> None:
        """Raise SecretKeyError if private keys are encrypted with a key that this process does not have."""

    async def counts(self) -> KeyCounts:
        """Return the number of private keys by the key that encrypts them."""

    async def reencrypt(self, after: str, limit: int, context: CallContext | None = None) -> Reencryption:
        """Encrypt the private keys of up to `limit` domains after an id, "" for the first, with the present key.

        Domains whose private keys are encrypted with it are passed over. Raises SecretKeyError.
        """
