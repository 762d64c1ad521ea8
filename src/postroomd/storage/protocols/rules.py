"""Types of the rules that the storage applies: pure functions from a stored value to its next value.

A rule that returns its argument unchanged (the same object) leaves the row as it is.
"""

from collections.abc import Callable

from postroomd.domain.model import Alias, Domain, DomainStatus, Mailbox
from postroomd.domain.payments import Payment
from postroomd.domain.provisioning import Subject
from postroomd.domain.provisions import Provision

DomainRule = Callable[[Domain], Domain]

MailboxRule = Callable[[Mailbox, DomainStatus], Mailbox]
"""Takes a mailbox and the status of its domain."""

AliasRule = Callable[[Alias], Alias]

MailboxStep = Callable[[Mailbox, DomainStatus], Mailbox | None]
"""A MailboxRule of the worker. None purges the mailbox."""

PurgeRule = Callable[[Mailbox], Mailbox | None]
"""Takes a mailbox of a deleted domain. None purges it."""

DomainPurgeRule = Callable[[Domain], Domain | None]
"""Takes a deleted domain without mailboxes. None removes it."""

PaymentRule = Callable[[Payment, Mailbox | None, DomainStatus], tuple[Payment, Mailbox | None]]
"""Takes a payment, its mailbox (None if purged) and the status of the domain. Returns payment and mailbox."""

ProvisionRule = Callable[[Provision, Subject | None, DomainStatus], tuple[Provision, Subject | None]]
"""Takes a provision, its subject (None if removed) and the status of the domain. Returns provision and subject.

None as the returned subject removes it: a mailbox is purged.
"""
