"""The rules of aliases."""

from dataclasses import replace
from datetime import datetime

from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName
from postroomd.domain.events import AliasEvent
from postroomd.domain.model import Alias, AliasStatus, Mailbox, MailboxStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.transitions import ALIAS_TRANSITIONS, check_transition

ALIASES_ALLOWED = frozenset(
    {
        MailboxStatus.READY,
        MailboxStatus.LOCKED,
        MailboxStatus.WAITING_DOMAIN,
        MailboxStatus.WAITING_PAYMENT,
        MailboxStatus.CREATING,
    }
)
"""The statuses of a mailbox that new aliases can be made of."""


def require_aliases_allowed(mailbox: Mailbox) -> None:
    """Raise PreconditionFailed where no alias of the mailbox can be made."""
    if mailbox.status not in ALIASES_ALLOWED:
        raise PreconditionFailed(
            ResourceName("mailbox", mailbox.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"no alias can be created of a mailbox that is {mailbox.status}",
        )


def new_alias(
    mailbox: Mailbox, *, alias_id: str, local_part: str, description: str, policy: LifecyclePolicy, now: datetime
) -> Alias:
    """An alias of the mailbox. Raises as `require_aliases_allowed`."""
    require_aliases_allowed(mailbox)
    status = AliasStatus.PROVISIONING if policy.provisioning else AliasStatus.READY
    check_transition(ALIAS_TRANSITIONS, AliasEvent.CREATE, None, status)
    return Alias(
        id=alias_id,
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        domain_id=mailbox.domain_id,
        mailbox_id=mailbox.id,
        email=f"{local_part}@{mailbox.email.partition('@')[2]}",
        description=description,
        status=status,
        created_at=now,
        updated_at=now,
    )


def request_alias(alias: Alias) -> Alias:
    """The alias asked of the mail platform, where that has to make it: its domain is ready."""
    if alias.status is not AliasStatus.PROVISIONING or alias.provision_id is not None:
        return alias
    return replace(alias, provision_id=provision_id(alias, ProvisionKind.CREATE))


def delete_alias(alias: Alias, policy: LifecyclePolicy, now: datetime) -> Alias:
    """The alias being deleted: it goes at once, unless `provision_id` says that the mail platform has to let it go."""
    if alias.status is AliasStatus.DELETING:
        return alias
    check_transition(ALIAS_TRANSITIONS, AliasEvent.DELETE, alias.status, AliasStatus.DELETING)
    known = alias.status is AliasStatus.READY or alias.provision_id is not None
    work = provision_id(alias, ProvisionKind.DELETE) if policy.provisioning and known else None
    return replace(alias, status=AliasStatus.DELETING, provision_id=work, updated_at=now)
