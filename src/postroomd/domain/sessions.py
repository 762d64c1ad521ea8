"""When open sessions on the mail server have to end."""

from postroomd.domain.model import Domain, DomainStatus, Mailbox
from postroomd.domain.model import MailboxStatus as M

_LOG_IN = {M.READY, M.RENEWING, M.PAYMENT_FAILED}


def session_end(before: Mailbox, after: Mailbox, *, new_password: bool) -> str | None:
    """Return the mask of the logins whose sessions a change of a mailbox ends; None if it ends none.

    A new password ends them too: somebody else may know the former one.
    """
    ends = _may_log_in(before) and (new_password or not _may_log_in(after))
    return after.email if ends else None


def _may_log_in(mailbox: Mailbox) -> bool:
    return mailbox.status in _LOG_IN and not mailbox.login_disabled


def domain_session_end(before: Domain, after: Domain) -> str | None:
    """Return the mask of all logins of a domain that is no longer ready; None for any other change."""
    left = before.status is DomainStatus.READY and after.status is not DomainStatus.READY
    return f"*@{after.name}" if left else None
