"""Aliases."""

from collections.abc import Callable
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.model import Alias, Mailbox
from postroomd.domain.policy import Quarantine
from postroomd.domain.queries import AliasQuery, Page
from postroomd.storage.protocols.rules import AliasRule


class Aliases(Protocol):
    """The aliases of tenants."""

    async def create(
        self,
        context: CallContext,
        mailbox_id: str,
        make: Callable[[Mailbox], Alias],
        quarantine: Quarantine | None = None,
    ) -> Alias:
        """Store a new alias, made from its mailbox.

        Raises NotFound for the mailbox, Conflict for an address that is taken or in quarantine.
        """

    async def get(self, context: CallContext, alias_id: str) -> Alias:
        """One alias. Raises NotFound."""

    async def list(self, context: CallContext, query: AliasQuery) -> Page[Alias]:
        """One page of aliases."""

    async def change(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule to an alias. Raises NotFound."""

    async def delete(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule that deletes an alias, and remove it unless its mail platform has to first. Raises NotFound.

        The platform has to where the rule leaves it with a `provision_id`.
        """
