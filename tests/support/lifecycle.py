"""A domain, and mailboxes of it in every status with the facts that put them there."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from postroomd.domain.events import PaymentStanding, ProvisionStanding
from postroomd.domain.mailboxes import new_mailbox
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.policy import LifecyclePolicy

M, P = MailboxStatus, SubscriptionPeriod

FREE = LifecyclePolicy()
BILLED = LifecyclePolicy(billing=True)
PLATFORM = LifecyclePolicy(provisioning=True)
BOTH = LifecyclePolicy(billing=True, provisioning=True)

RETENTION = FREE.retention
MICROSECOND = timedelta(microseconds=1)
START = datetime(2024, 1, 31, 12, 30, tzinfo=UTC)
NOW = START + timedelta(days=10)

DOMAIN = Domain(
    id="d0000000-0000-4000-8000-000000000000",
    organization_id="00000000-0000-4000-8000-000000000000",
    project_id="a0000000-0000-4000-8000-000000000000",
    name="example.com",
    status=DomainStatus.READY,
    mailbox_total_count=0,
    created_at=START,
    updated_at=START,
)

_WORK = "c0000000-0000-4000-8000-000000000000"

FACTS: Mapping[MailboxStatus, Mapping[str, Any]] = {
    M.CREATING: {"provision": ProvisionStanding.CREATE_AWAITED, "provision_id": _WORK},
    M.WAITING_PAYMENT: {"payment": PaymentStanding.FIRST_AWAITED, "payment_step_at": START + BILLED.payment_term},
    M.WAITING_DOMAIN: {},
    M.READY: {},
    M.DELETION_SCHEDULED: {"deletion_scheduled_at": START + RETENTION},
    M.LOCKED: {"lock_reason": "abuse"},
    M.RENEWING: {"payment": PaymentStanding.RENEWAL_AWAITED, "payment_step_at": START + BILLED.payment_term},
    M.DELETING: {"purging": True},
    M.RESTORING: {"provision": ProvisionStanding.RESTORE_AWAITED, "provision_id": _WORK},
    M.PAYMENT_FAILED: {"payment": PaymentStanding.FAILED, "payment_step_at": START + BILLED.payment_grace},
}
"""What makes a mailbox of a ready domain be in each status (of one that is not ready, for waiting_domain)."""


def domain(status: DomainStatus) -> Domain:
    return replace(DOMAIN, status=status)


def mailbox(status: MailboxStatus = M.READY, period: SubscriptionPeriod = P.MONTHLY) -> Mailbox:
    """A mailbox that began at START; one that is scheduled for deletion was deleted then."""
    made = new_mailbox(
        DOMAIN,
        mailbox_id="b0000000-0000-4000-8000-000000000000",
        local_part="ada",
        period=period,
        policy=FREE,
        now=START,
    )
    return replace(made, status=status, **FACTS[status])
