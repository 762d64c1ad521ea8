"""What a mailbox may do on a mail server: the table that the views of the SQL contract follow, and its documentation.

A mailbox is in use once its domain is ready, a payment of it was confirmed (or there is no billing), and the mail
platform has provisioned it. What it may do then depends on its status and on its own switches. A passing obstacle gets
a temporary reply, 4xx: a sender's server that gets a permanent one returns the mail.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from postroomd.domain.events import ProvisionStanding
from postroomd.domain.model import DomainStatus, Mailbox
from postroomd.domain.model import MailboxStatus as M

NOT_YET_REPLY = "451 4.2.1 The mailbox is not available yet, try again later"
DISABLED_REPLY = "550 5.2.1 The mailbox is disabled"


@dataclass(frozen=True, slots=True)
class MailAccess:
    """What a mailbox may do: log in, send, receive, and have its mail forwarded.

    `reply` is the SMTP reply to senders, with its enhanced status code (RFC 3463); empty if it may receive.
    """

    log_in: bool
    send: bool
    receive: bool
    forward: bool
    reply: str = ""


IN_USE = MailAccess(log_in=True, send=True, receive=True, forward=True)
SUSPENDED = MailAccess(log_in=False, send=False, receive=True, forward=False)
NOT_YET = MailAccess(log_in=False, send=False, receive=False, forward=False, reply=NOT_YET_REPLY)
DISABLED = replace(NOT_YET, reply=DISABLED_REPLY)

STATUS_ACCESS: Mapping[M, MailAccess] = {
    M.CREATING: NOT_YET,
    M.WAITING_PAYMENT: NOT_YET,
    # Its domain is not ready, and no mail server hosts it; or it is again, and the mailbox has yet to follow.
    M.WAITING_DOMAIN: NOT_YET,
    M.READY: IN_USE,
    M.RENEWING: IN_USE,
    M.PAYMENT_FAILED: IN_USE,
    M.LOCKED: SUSPENDED,
    M.RESTORING: NOT_YET,
    M.DELETION_SCHEDULED: DISABLED,
    M.DELETING: DISABLED,
}
"""What a mailbox that was in use once may do in each status, without its switches."""


def mail_access(mailbox: Mailbox, domain_status: DomainStatus) -> MailAccess | None:
    """Return what a mailbox may do now; None if no mail server hosts its domain, as if the address did not exist."""
    if domain_status is not DomainStatus.READY:
        return None
    access = STATUS_ACCESS[mailbox.status]
    if access.receive and not _was_in_use(mailbox):
        return NOT_YET
    return MailAccess(
        log_in=access.log_in and not mailbox.login_disabled,
        send=access.send and not mailbox.sending_disabled,
        receive=access.receive and not mailbox.receiving_disabled,
        forward=access.forward and not mailbox.receiving_disabled,
        reply=DISABLED_REPLY if access.receive and mailbox.receiving_disabled else access.reply,
    )


def _was_in_use(mailbox: Mailbox) -> bool:
    return not mailbox.never_paid and mailbox.provision is not ProvisionStanding.CREATE_AWAITED
