"""The operator's side of every tenant: payments, provisions, locks, history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.history import Tombstone, Transition
from postroomd.domain.model import Mailbox
from postroomd.domain.payments import Payment
from postroomd.domain.provisions import Provision
from postroomd.domain.queries import Slice
from postroomd.storage.protocols.rules import MailboxRule, PaymentRule, ProvisionRule


class Administration(Protocol):
    """The operator's side of every tenant's mailboxes. A cursor is "" for the start of a list, and opaque."""

    async def pending_payments(self, cursor: str, limit: int) -> Slice[Payment]:
        """Payments that are pending, refused or overdue, oldest first, but for those of mailboxes that are to go.

        Raises InvalidArguments for a cursor that no list gave.
        """

    async def settle_payment(self, context: CallContext, payment_id: str, rule: PaymentRule) -> Payment:
        """Apply a rule to a payment and its mailbox. Raises NotFound."""

    async def pending_provisions(self, now: datetime, cursor: str, limit: int) -> Slice[Provision]:
        """The mail platform's work that may be tried by now, the longest due first. Raises as `pending_payments`."""

    async def settle_provision(self, context: CallContext, provision_id: str, rule: ProvisionRule) -> Provision:
        """Apply a rule to a piece of work and what it is about. Raises NotFound."""

    async def change_mailbox(self, context: CallContext, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        """Apply a rule to a mailbox of any tenant. Raises NotFound, also for a purged one."""

    async def get_mailbox(self, mailbox_id: str) -> Mailbox | Tombstone:
        """A mailbox of any tenant, or what is left of it. Raises NotFound for one that never was."""

    async def transitions(self, mailbox_id: str, after: int, limit: int) -> Sequence[Transition]:
        """A mailbox's history beyond a revision, in order. Raises NotFound for a mailbox that never was."""

    async def mailboxes_with_address(self, address: str) -> Sequence[str]:
        """The ids of all mailboxes that have the address, or had it when they were purged: newest last."""
