"""Storage of aliases."""

from collections.abc import Callable
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.model import Alias, Mailbox
from postroomd.domain.policy import DEFAULT_QUOTAS, Quarantine, Quotas
from postroomd.domain.queries import AliasQuery, Page
from postroomd.storage.protocols.rules import AliasRule


class Aliases(Protocol):
    """The aliases of a tenant."""

    async def create(
        self,
        context: CallContext,
        mailbox_id: str,
        make: Callable[[Mailbox], Alias],
        quarantine: Quarantine | None = None,
        quotas: Quotas = DEFAULT_QUOTAS,
    ) -> Alias:
        """Store and return the alias that `make` returns for its mailbox.

        In a ready domain it is requested from the mail platform, if the alias has to be provisioned.
        Raises NotFound for the mailbox, Conflict for an address that is in use or in quarantine, or is the destination
        of a forwarding of the mailbox, QuotaExceeded for a mailbox or an organization that has too many aliases.
        """

    async def get(self, context: CallContext, alias_id: str) -> Alias:
        """Return an alias. Raises NotFound."""

    async def list(self, context: CallContext, query: AliasQuery) -> Page[Alias]:
        """Return one page of aliases."""

    async def change(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule to an alias, and return the alias. Raises NotFound."""

    async def delete(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule that deletes an alias, and return the alias as the rule returned it. Raises NotFound.

        The row is removed and the address released. If the rule sets a `provision_id`, both happen only once the
        provision is confirmed.
        """
