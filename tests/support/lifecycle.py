"""A domain, and its mailboxes in every status, with the fields that each status is derived from."""

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

RETENTION = FREE.deletion_retention
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

_PROVISION_ID = "c0000000-0000-4000-8000-000000000000"

FIELDS: Mapping[MailboxStatus, Mapping[str, Any]] = {
    M.CREATING: {"provision": ProvisionStanding.CREATE_AWAITED, "provision_id": _PROVISION_ID},
    M.WAITING_PAYMENT: {
        "payment": PaymentStanding.FIRST_AWAITED,
        "payment_step_at": START + BILLED.payment_term,
        "subscription_period": None,
        "subscription_period_started_at": None,
        "next_subscription_period_starts_at": None,
    },
    M.WAITING_DOMAIN: {},
    M.READY: {},
    M.DELETION_SCHEDULED: {"deletion_scheduled_at": START + RETENTION},
    M.LOCKED: {"lock_reason": "abuse"},
    M.RENEWING: {"payment": PaymentStanding.RENEWAL_AWAITED, "payment_step_at": START + BILLED.payment_term},
    M.DELETING: {"purging": True},
    M.RESTORING: {"provision": ProvisionStanding.RESTORE_AWAITED, "provision_id": _PROVISION_ID},
    M.PAYMENT_FAILED: {"payment": PaymentStanding.FAILED, "payment_step_at": START + BILLED.payment_grace},
}
"""The fields of a mailbox in each status, in a ready domain; for WAITING_DOMAIN in one that is not ready."""


def domain(status: DomainStatus) -> Domain:
    return replace(DOMAIN, status=status)


def mailbox(status: MailboxStatus = M.READY, period: SubscriptionPeriod = P.MONTHLY) -> Mailbox:
    """A mailbox in a status, created at START; for DELETION_SCHEDULED it was also deleted then."""
    new = new_mailbox(
        DOMAIN,
        mailbox_id="b0000000-0000-4000-8000-000000000000",
        local_part="ada",
        period=period,
        policy=FREE,
        now=START,
    )
    return replace(new, status=status, **FIELDS[status])
