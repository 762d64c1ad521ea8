"""What the operator's settings say to the rules."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecyclePolicy:
    """The operator's lifecycle policy. Without billing, periods cost nothing.

    Without provisioning, what is stored is provided.

    A payment is awaited for `payment_term`; then the mailbox works on for `payment_grace`, and is locked for
    `suspension_grace` before it is scheduled for deletion, which comes `retention` later. An address is kept from
    another use for `quarantine` after a purge.
    """

    retention: timedelta = timedelta(days=30)
    billing: bool = False
    payment_term: timedelta = timedelta(days=7)
    payment_grace: timedelta = timedelta(days=7)
    suspension_grace: timedelta = timedelta(days=14)
    provisioning: bool = False
    quarantine: timedelta = timedelta(0)
