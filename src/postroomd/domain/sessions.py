"""When open sessions on the mail server have to end."""

from postroomd.domain.mail_access import mail_access
from postroomd.domain.model import Domain, DomainStatus, Mailbox


def session_end(before: Mailbox, after: Mailbox, *, new_password: bool) -> str | None:
    """Return the mask of the logins whose sessions a change of a mailbox ends; None if it ends none.

    A new password ends them too: somebody else may know the former one.
    """
    ends = _may_log_in(before) and (new_password or not _may_log_in(after))
    return after.email if ends else None


def _may_log_in(mailbox: Mailbox) -> bool:
    # In a domain that is not ready nobody may: domain_session_end is for those.
    access = mail_access(mailbox, DomainStatus.READY)
    return access is not None and access.log_in


def domain_session_end(before: Domain, after: Domain) -> str | None:
    """Return the mask of all logins of a domain that is no longer ready; None for any other change."""
    left = before.status is DomainStatus.READY and after.status is not DomainStatus.READY
    return f"*@{after.name}" if left else None
