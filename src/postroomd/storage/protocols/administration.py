"""The operator's view of all tenants: payments, provisions, locks, history."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.history import DomainTransition, Tombstone, Transition
from postroomd.domain.model import Mailbox
from postroomd.domain.payments import Payment
from postroomd.domain.provisions import Provision
from postroomd.domain.queries import Slice
from postroomd.storage.protocols.rules import MailboxRule, PaymentRule, ProvisionRule


class Administration(Protocol):
    """The operator's methods; they reach every tenant.

    A list starts at the cursor "" and continues at the opaque `next_cursor` of the slice before.
    """

    async def pending_payments(self, cursor: str, limit: int) -> Slice[Payment]:
        """Return up to `limit` payments that are pending, refused or overdue, oldest request first.

        Payments of mailboxes whose deletion is scheduled or under way are left out. Raises InvalidArguments for a
        malformed cursor.
        """

    async def settle_payment(self, context: CallContext, payment_id: str, rule: PaymentRule) -> Payment:
        """Apply a rule to a payment and its mailbox, and return the payment. Raises NotFound."""

    async def pending_provisions(self, due_by: datetime | None, cursor: str, limit: int) -> Slice[Provision]:
        """Return up to `limit` pending provisions, longest overdue first: those due by a time, or all without one.

        Raises InvalidArguments for a malformed cursor.
        """

    async def settle_provision(self, context: CallContext, provision_id: str, rule: ProvisionRule) -> Provision:
        """Apply a rule to a provision and its subject, and return the provision. Raises NotFound."""

    async def change_mailbox(self, context: CallContext, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        """Apply a rule to a mailbox, and return the mailbox. Raises NotFound, also for a purged mailbox."""

    async def require_organization(self, organization_id: str) -> None:
        """Raise NotFound for an unknown organization."""

    async def organizations_after(self, organization_id: str, limit: int) -> Sequence[str]:
        """Return the ids of up to `limit` organizations after an id, "" for the first ones, in their order."""

    async def mailboxes_in_use(self, address: str) -> Sequence[str]:
        """Return the ids of the mailboxes of all tenants that have the address now."""

    async def get_mailbox(self, mailbox_id: str) -> Mailbox | Tombstone:
        """Return a mailbox, or the tombstone of a purged one. Raises NotFound."""

    async def mailboxes(self, mailbox_ids: Sequence[str]) -> Mapping[str, Mailbox]:
        """Return mailboxes of any tenant by id; unknown ids are left out."""

    async def password_hashes(self, mailbox_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the password hashes of mailboxes by id; unknown ids are left out."""

    async def transitions(self, mailbox_id: str, after: int, limit: int) -> Sequence[Transition]:
        """Return up to `limit` status transitions of a mailbox after a revision, oldest first.

        A purged mailbox keeps its transitions. Raises NotFound for an id that no mailbox ever had.
        """

    async def domain_transitions(self, domain_id: str, after: int, limit: int) -> Sequence[DomainTransition]:
        """Return up to `limit` status transitions of a domain after a revision, oldest first.

        A purged domain keeps its transitions. Raises NotFound for an id that no domain ever had.
        """

    async def transitions_with_address(self, address: str, after: tuple[str, int], limit: int) -> Sequence[Transition]:
        """Return up to `limit` status transitions of all mailboxes that `mailboxes_with_address` returns.

        They are ordered by mailbox and revision, and begin after a mailbox's id and a revision of it: ("", 0) for the
        first ones. Raises NotFound if no mailbox ever had the address.
        """

    async def domain_transitions_with_name(
        self, name: str, after: tuple[str, int], limit: int
    ) -> Sequence[DomainTransition]:
        """Return up to `limit` status transitions of all domains that `domains_with_name` returns.

        They are ordered and begin as those of `transitions_with_address`. Raises NotFound if no domain ever had the
        name.
        """

    async def domains_with_name(self, name: str) -> Sequence[str]:
        """Return the ids of all domains that have the name or had it when they were purged, by their creation.

        Of a domain from before its history was recorded, a purge is not known.
        """

    async def mailboxes_with_address(self, address: str) -> Sequence[str]:
        """Return the ids of all mailboxes that have the address or had it when they were purged.

        The purged ones come first, by the time of their purge; then the others, by their creation.
        """
