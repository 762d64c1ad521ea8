"""Rules as the storage applies them: pure functions from a stored value to the value it should become."""

from collections.abc import Callable, Mapping

from postroomd.domain.domains import DomainCheck
from postroomd.domain.model import Alias, Domain, DomainRecord, DomainStatus, Mailbox
from postroomd.domain.payments import Payment
from postroomd.domain.provisioning import Subject
from postroomd.domain.provisions import Provision

DomainRule = Callable[[Domain], Domain]


DomainDeletionRule = Callable[[Domain, int], Domain]
"""A rule that is given the number of the domain's mailboxes that are neither deletion_scheduled nor deleting."""


ValidationRule = Callable[[Domain, Mapping[str, DomainRecord], bool], DomainCheck]
"""A rule that is given the domain's records by kind, and whether another organization owns its name."""


ActivationRule = Callable[[Domain], DomainCheck]


MailboxRule = Callable[[Mailbox, DomainStatus], Mailbox]


AliasRule = Callable[[Alias], Alias]


MailboxStep = Callable[[Mailbox, DomainStatus], Mailbox | None]


PurgeRule = Callable[[Mailbox], Mailbox | None]


DomainPurgeRule = Callable[[Domain], Domain | None]


PaymentRule = Callable[[Payment, Mailbox | None, DomainStatus], tuple[Payment, Mailbox | None]]


ProvisionRule = Callable[[Provision, Subject | None, DomainStatus], tuple[Provision, Subject | None]]
"""A rule of the operator's side is given the subject too, None where it is gone; it answers None for one that goes."""
