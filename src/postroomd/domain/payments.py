"""What a mailbox's periods cost, and what comes of their payments."""

from datetime import datetime

from postroomd.domain.model import DomainStatus, Mailbox
from postroomd.domain.operations import Payment
from postroomd.domain.terms import Terms


def confirm_payment(
    payment: Payment, mailbox: Mailbox | None, domain_status: DomainStatus, *, now: datetime
) -> tuple[Payment, Mailbox | None]:
    """The payment confirmed, and its mailbox settled. Raises PreconditionFailed for one that is void."""
    raise NotImplementedError


def refuse_payment(
    payment: Payment, mailbox: Mailbox | None, domain_status: DomainStatus, *, reason: str, terms: Terms, now: datetime
) -> tuple[Payment, Mailbox | None]:
    """The payment refused, and its mailbox to go the way of unpaid ones.

    Raises PreconditionFailed where it is confirmed or void.
    """
    raise NotImplementedError
