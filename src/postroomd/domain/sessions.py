"""When open sessions on the mail server have to end."""

from postroomd.domain.model import Domain, DomainStatus, Mailbox
from postroomd.domain.model import MailboxStatus as M

_LOG_IN = {M.READY, M.RENEWING, M.PAYMENT_FAILED}


def session_end(before: Mailbox, after: Mailbox, *, new_password: bool) -> str | None:
    """Return the mask of the logins whose sessions a change of a mailbox ends; None if it ends none.

    A new password ends them too: somebody else may know the former one.
    """
    could_log_in, may_log_in = before.status in _LOG_IN, after.status in _LOG_IN
    return after.email if could_log_in and (new_password or not may_log_in) else None


def domain_session_end(before: Domain, after: Domain) -> str | None:
    """Return the mask of all logins of a domain that is no longer ready; None for any other change."""
    left = before.status is DomainStatus.READY and after.status is not DomainStatus.READY
    return f"*@{after.name}" if left else None
