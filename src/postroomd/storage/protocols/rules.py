"""Rules as the storage applies them: pure functions from a stored value to the value it should become."""

from collections.abc import Callable, Mapping

from postroomd.domain.dkim import DkimKeys, RotationChange
from postroomd.domain.forwardings import ForwardingSource
from postroomd.domain.model import Alias, Domain, DomainRecord, DomainStatus, Forwarding, Mailbox, MailboxForwarding
from postroomd.domain.ownership import DomainCheck, Registration
from postroomd.domain.payments import Payment
from postroomd.domain.provisioning import Subject
from postroomd.domain.provisions import Provision

DomainRule = Callable[[Domain], Domain]

DomainDeletionRule = Callable[[Domain, int], Domain]
"""Is given the number of the domain's mailboxes that are neither deletion_scheduled nor deleting."""

ValidationRule = Callable[[Domain, Mapping[str, DomainRecord], Registration | None], DomainCheck]
"""Is given the domain's records by kind, and the domain of another organization that owns its name, if there is one."""

ActivationRule = Callable[[Domain], DomainCheck]

MailboxRule = Callable[[Mailbox, DomainStatus], Mailbox]

AliasRule = Callable[[Alias], Alias]

ForwardingRule = Callable[[Forwarding], Forwarding]

RedirectionRule = Callable[[Forwarding, ForwardingSource], Forwarding]
"""Is given the source of the forwarding, with the alias that would receive the mail to the new destination."""

SettingsRule = Callable[[MailboxForwarding, Mailbox], MailboxForwarding]
"""Is given the mailbox whose forwardings have the settings."""

MailboxStep = Callable[[Mailbox, DomainStatus], Mailbox | None]
"""Returns None for a mailbox to purge."""

PurgeRule = Callable[[Mailbox], Mailbox | None]
"""Returns None for a mailbox to purge."""

DomainPurgeRule = Callable[[Domain], Domain | None]
"""Returns None for a domain to remove."""

PaymentRule = Callable[[Payment, Mailbox | None, DomainStatus], tuple[Payment, Mailbox | None]]
"""Is given the payment's mailbox; None if it is purged."""

ProvisionRule = Callable[[Provision, Subject | None, DomainStatus], tuple[Provision, Subject | None]]
"""Is given the provision's subject, None if it is gone, and returns None for one to remove."""

RotationRule = Callable[[DkimKeys], RotationChange]

RotationCheck = Callable[[DkimKeys], None]
"""Raises an error of the domain if the keys can't be changed."""
