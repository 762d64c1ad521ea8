"""Storage of mailboxes, and the quarantine of addresses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.model import Domain, Mailbox, MailboxView
from postroomd.domain.policy import Quarantine
from postroomd.domain.queries import MailboxQuery, Page
from postroomd.storage.protocols.rules import MailboxRule


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox to create. `make` returns it for the domain that the transaction has read, and may raise."""

    make: Callable[[Domain], Mailbox]
    password_hash: str

    def __repr__(self) -> str:
        return "NewMailbox(…)"


class Mailboxes(Protocol):
    """The mailboxes of a tenant."""

    async def create(
        self, context: CallContext, domain_id: str, batch: Sequence[NewMailbox], quarantine: Quarantine | None = None
    ) -> Sequence[Mailbox]:
        """Store a batch of mailboxes of one domain, all or none, and return them in its order.

        Raises NotFound for the domain, Conflict with every address that is in use or in quarantine, QuotaExceeded if
        the batch exceeds the quota of the domain's project.
        """

    async def get(self, context: CallContext, mailbox_id: str) -> Mailbox:
        """Return a mailbox. Raises NotFound."""

    async def view(self, context: CallContext, mailbox_id: str) -> MailboxView:
        """Return the view of a mailbox. Raises NotFound."""

    async def list(self, context: CallContext, query: MailboxQuery) -> Page[MailboxView]:
        """Return one page of mailbox views."""

    async def change(
        self, context: CallContext, mailbox_id: str, rule: MailboxRule, password_hash: str | None = None
    ) -> Mailbox:
        """Apply a rule to a mailbox, and return the mailbox. Raises NotFound.

        If the rule changes the mailbox and `password_hash` is set, it replaces the stored password hash.
        """
