"""Storage of mailboxes, and the quarantine of addresses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from postroomd.domain.context import CallContext
from postroomd.domain.model import Domain, Mailbox, MailboxView
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.queries import MailboxQuery, Page
from postroomd.storage.protocols.rules import MailboxRule


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox to create. `make` returns it for the domain that the transaction has read, and may raise."""

    make: Callable[[Domain], Mailbox]
    password_hash: str

    def __repr__(self) -> str:
        return "NewMailbox(…)"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """For how long before `now` a purge makes an address unavailable within its organization."""

    length: timedelta
    now: datetime


def quarantine_of(policy: LifecyclePolicy, now: datetime) -> Quarantine | None:
    """Return the quarantine of a policy; None if it has none."""
    return Quarantine(policy.quarantine, now) if policy.quarantine else None


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
