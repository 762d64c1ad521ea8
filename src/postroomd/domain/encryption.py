"""The encryption of secrets in the database, as the operator sees it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencryption:
    """The result of one step of a re-encryption with the key `key_id`.

    `encrypted` private keys were not encrypted before, and `reencrypted` ones were by another key. The next step
    continues after the domain `last_id`, None at the end.
    """

    key_id: str
    encrypted: int
    reencrypted: int
    last_id: str | None


KeyCounts = Mapping[str | None, int]
"""The number of private keys by the id of the key that encrypts them; None: not encrypted."""
