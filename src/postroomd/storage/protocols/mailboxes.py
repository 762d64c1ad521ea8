"""Mailboxes, and the quarantine of addresses."""

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
    """A mailbox to create in a domain that the transaction has yet to read.

    `make` gives the mailbox in that domain, and may raise; `password_hash` is stored beside it.
    """

    make: Callable[[Domain], Mailbox]
    password_hash: str

    def __repr__(self) -> str:
        return "NewMailbox(…)"


class Mailboxes(Protocol):
    """The mailboxes of tenants."""

    async def create(
        self, context: CallContext, domain_id: str, batch: Sequence[NewMailbox], quarantine: Quarantine | None = None
    ) -> Sequence[Mailbox]:
        """Store new mailboxes of one domain, all or none, and take their project's quota with them.

        Raises NotFound for the domain, Conflict with every address that is taken or in quarantine, QuotaExceeded.
        """

    async def get(self, context: CallContext, mailbox_id: str) -> Mailbox:
        """One mailbox. Raises NotFound."""

    async def view(self, context: CallContext, mailbox_id: str) -> MailboxView:
        """What callers see of one mailbox. Raises NotFound."""

    async def list(self, context: CallContext, query: MailboxQuery) -> Page[Mailbox]:
        """One page of mailboxes."""

    async def list_views(self, context: CallContext, query: MailboxQuery) -> Page[MailboxView]:
        """The same page, of what callers see: it is read in a quarter of the time."""

    async def change(
        self, context: CallContext, mailbox_id: str, rule: MailboxRule, password_hash: str | None = None
    ) -> Mailbox:
        """Apply a rule to a mailbox and the status of its domain, and store the password. Raises NotFound."""
