"""The private DKIM keys of domains, for the signer of the operator's mail server. No API returns them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The key that the mail of a domain name is signed with: PEM, PKCS #8. Its record is at `selector`._domainkey."""

    domain_id: str
    name: str
    selector: str
    private_pem: str

    def __repr__(self) -> str:
        return f"SigningKey(name={self.name!r}, selector={self.selector!r}, private_pem=…)"


class SigningKeys(Protocol):
    """The keys of the domains that own their names: those whose mail is signed."""

    async def page(self, after: str, limit: int) -> Sequence[SigningKey]:
        """Return up to `limit` keys whose domain names follow a name, "" for the first, in the order of the names."""
