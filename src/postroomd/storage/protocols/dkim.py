"""The DKIM keys of domains: their rotation, and the private keys for the signer of the operator's mail server.

No API returns private keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.dkim import DkimKeys
from postroomd.domain.model import Domain
from postroomd.domain.queries import Slice
from postroomd.storage.protocols.rules import RotationCheck, RotationRule


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key of a domain name: PEM, PKCS #8. Its record is at `selector`._domainkey.

    Mail is signed with it if `signs`; otherwise it is the previous key of a rotation, which a signer may use until it
    has noticed the other one.
    """

    domain_id: str
    name: str
    selector: str
    private_pem: str = field(repr=False)
    signs: bool = True


class SigningKeys(Protocol):
    """The keys of the domains that own their names: those whose mail is signed."""

    async def page(self, after: str, limit: int) -> Sequence[SigningKey]:
        """Return the keys of up to `limit` domains whose names follow a name, "" for the first, in their order.

        Each domain has one key that signs, which comes first, and may have a previous one. Raises SecretKeyError.
        """


class DkimRotations(Protocol):
    """The rotations of the DKIM keys of every tenant's domains."""

    async def domains_named(self, name: str) -> Sequence[Domain]:
        """Return the domains of all organizations that have a name now, by their ids."""

    async def find(self, domain_id: str) -> DkimKeys:
        """Return the keys of a domain. Raises NotFound."""

    async def list(self, after: str, limit: int) -> Slice[DkimKeys]:
        """Return up to `limit` domains with a rotation in progress that follow an id, "" for the first, by their ids.

        The cursor of the next slice is an id.
        """

    async def rotate(self, context: CallContext, domain_id: str, rule: RotationRule, now: datetime) -> DkimKeys:
        """Apply a rule to the keys of a domain, and return them. Raises NotFound.

        A lookup of the domain is due at `now` if the rule requests one; a running one is superseded by a change.
        """

    async def cancel(self, context: CallContext, domain_id: str, check: RotationCheck, now: datetime) -> DkimKeys:
        """Remove the next key of a domain unless the check raises an error, and return its keys. Raises NotFound."""
