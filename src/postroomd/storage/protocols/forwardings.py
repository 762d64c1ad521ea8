"""Storage of forwardings and of their settings."""

from collections.abc import Callable
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.forwardings import ForwardingSource
from postroomd.domain.model import Forwarding, MailboxForwarding
from postroomd.domain.queries import ForwardingQuery, Page
from postroomd.storage.protocols.rules import ForwardingRule, RedirectionRule, SettingsRule


class Forwardings(Protocol):
    """The forwardings of a tenant.

    Changes of one mailbox's forwardings, and creations of its aliases, are serialized.
    """

    async def create(
        self,
        context: CallContext,
        mailbox_id: str,
        destination: str,
        make: Callable[[ForwardingSource], Forwarding],
    ) -> Forwarding:
        """Store and return the forwarding to a canonical destination that `make` returns for its source.

        In a ready domain it is requested from the mail platform, if the forwarding has to be provisioned.
        Raises NotFound for the mailbox.
        """

    async def get(self, context: CallContext, forwarding_id: str) -> Forwarding:
        """Return a forwarding. Raises NotFound."""

    async def list(self, context: CallContext, query: ForwardingQuery) -> Page[Forwarding]:
        """Return one page of forwardings."""

    async def redirect(
        self, context: CallContext, forwarding_id: str, destination: str | None, rule: RedirectionRule
    ) -> Forwarding:
        """Apply a rule to a forwarding and the source with the new destination, and return the forwarding.

        Raises NotFound.
        """

    async def delete(self, context: CallContext, forwarding_id: str, rule: ForwardingRule) -> Forwarding:
        """Apply a rule that deletes a forwarding, and return the forwarding as the rule returned it. Raises NotFound.

        The row is removed; if the rule sets a `provision_id`, only once the provision is confirmed.
        """

    async def settings(self, context: CallContext, mailbox_id: str) -> MailboxForwarding:
        """Return the settings of a mailbox's forwardings. Raises NotFound for the mailbox."""

    async def change_settings(
        self, context: CallContext, mailbox_id: str, rule: SettingsRule, forwarding_rule: ForwardingRule
    ) -> MailboxForwarding:
        """Apply a rule to the settings of a mailbox's forwardings, and return the settings.

        If they change, `forwarding_rule` is applied to each forwarding. Raises NotFound for the mailbox.
        """
