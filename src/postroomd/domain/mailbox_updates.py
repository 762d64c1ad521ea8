"""Updates of mailboxes on the mail platform: which changes request one, and what a mailbox may do there."""

from dataclasses import replace

from postroomd.domain.events import ProvisionStanding
from postroomd.domain.mail_access import MailAccess, mail_access
from postroomd.domain.mailbox_status import status_of
from postroomd.domain.model import DomainStatus, Mailbox
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id


def platform_access(mailbox: Mailbox) -> MailAccess:
    """Return what a mailbox may do once the platform has provisioned it, and its domain is ready.

    Provisions of the domain itself report that it is not ready.
    """
    provided = replace(mailbox, provision=ProvisionStanding.PROVIDED)
    access = mail_access(replace(provided, status=status_of(provided, DomainStatus.READY)), DomainStatus.READY)
    assert access is not None  # noqa: S101  None stands for a domain that is not ready
    return access


def request_update(before: Mailbox, after: Mailbox, policy: LifecyclePolicy, *, new_password: bool = False) -> Mailbox:
    """Return a changed mailbox with its update requested of the mail platform, if that has to know of the change.

    The request replaces a pending one: the platform may have read the former state already, and a confirmation of that
    must not pass for this one. Unchanged if there is no platform, or if it is asked to create, restore or delete the
    mailbox anyway and reads its state then.
    """
    if not policy.provisioning or not (new_password or _desired(before) != _desired(after)):
        return after
    if after.provision_id is not None and after.provision_id != before.provision_id:
        return after  # requested with the state after the change
    kind = _KINDS.get(after.provision)
    if kind is None or (kind is not ProvisionKind.UPDATE and after.provision_id is None):
        return after
    changed = replace(after, revision=after.revision + 1)  # as it is stored: the first revision requested the creation
    return replace(after, provision_id=provision_id(changed, kind))


def _desired(mailbox: Mailbox) -> tuple[MailAccess, str, int]:
    return platform_access(mailbox), mailbox.display_name, mailbox.storage_quota_bytes


_KINDS = {
    ProvisionStanding.CREATE_AWAITED: ProvisionKind.CREATE,
    ProvisionStanding.RESTORE_AWAITED: ProvisionKind.RESTORE,
    ProvisionStanding.PROVIDED: ProvisionKind.UPDATE,
}
