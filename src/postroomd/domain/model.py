"""What Postroom keeps: frozen values, and the enums of the contract.

An enum's value is the name that REST callers see and that the database stores; the upper-case member name is the
one in protobuf. Times are aware datetimes in UTC. Ids are lower-case UUIDs as text. A `revision` counts the
writes of what callers see of a value, from 1: two reads with one revision saw the same.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from postroomd.domain.events import MailboxEvent, PaymentStanding, ProvisionStanding


class DomainStatus(StrEnum):
    """Where a domain stands."""

    CREATING = "creating"
    WAITING_VALIDATION = "waiting_validation"
    VALIDATING = "validating"
    VALIDATION_FAILED = "validation_failed"
    PROVISIONING = "provisioning"
    READY = "ready"
    DELETING = "deleting"


class RecordStatus(StrEnum):
    """Result of a DNS record's last lookup. UNKNOWN_STATUS: not looked up yet, or the lookup was not answered."""

    UNKNOWN_STATUS = "unknown_status"
    VALIDATING = "validating"
    VALID = "valid"
    INVALID = "invalid"
    NOT_FOUND = "not_found"


class RecordLevel(StrEnum):
    """How much depends on a DNS record."""

    REQUIRED = "required"
    RECOMMENDED = "recommended"
    OPTIONAL = "optional"


class DnsType(StrEnum):
    """The type of a DNS record."""

    CNAME_DNS_TYPE = "cname_dns_type"
    MX_DNS_TYPE = "mx_dns_type"
    SRV_DNS_TYPE = "srv_dns_type"
    TXT_DNS_TYPE = "txt_dns_type"


class MailboxStatus(StrEnum):
    """Where a mailbox stands."""

    CREATING = "creating"
    WAITING_PAYMENT = "waiting_payment"
    WAITING_DOMAIN = "waiting_domain"
    READY = "ready"
    DELETION_SCHEDULED = "deletion_scheduled"
    LOCKED = "locked"
    RENEWING = "renewing"
    DELETING = "deleting"
    RESTORING = "restoring"
    PAYMENT_FAILED = "payment_failed"


class SubscriptionPeriod(StrEnum):
    """How long a period of a subscription lasts."""

    CANCELED = "canceled"
    MONTHLY = "monthly"
    YEARLY = "yearly"


class AliasStatus(StrEnum):
    """Where an alias stands."""

    PROVISIONING = "provisioning"
    DELETING = "deleting"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """An e-mail domain that an organization has registered. `name` is made of A-labels in lower case.

    `provision_id` is the work that the mail platform has been asked for and has not confirmed.
    """

    id: str
    organization_id: str
    project_id: str
    name: str
    status: DomainStatus
    mailbox_total_count: int
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    provision_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRecord:
    """A DNS record that a domain should publish. `kind` is its name in GetDomainRecordsResponse."""

    id: str
    domain_id: str
    kind: str
    status: RecordStatus
    level: RecordLevel
    dns_type: DnsType
    dns_name: str
    dns_value: str
    error: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """A mailbox, without its password: that is written and never read back here.

    `period_anchor_at` is the first start that the calendar counts periods from; `last_paid_period` the length of
    the last running period, which a restore takes up again once `subscription_period` is canceled.

    `status` follows from the facts at the end (lifecycle.status_of): `purging`, `lock_reason` (the operator's lock),
    `payment` and `provision`. `payment_step_at` is when an unpaid standing moves on by itself, `provision_id` the work
    that the mail platform has been asked for and has not confirmed. `cause` made the status what it is.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    email: str
    status: MailboxStatus
    subscription_period: SubscriptionPeriod
    last_paid_period: SubscriptionPeriod
    period_anchor_at: datetime
    subscription_period_started_at: datetime
    next_subscription_period: SubscriptionPeriod
    next_subscription_period_starts_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deletion_scheduled_at: datetime | None = None
    revision: int = 1
    purging: bool = False
    lock_reason: str | None = None
    payment: PaymentStanding = PaymentStanding.SETTLED
    payment_step_at: datetime | None = None
    provision: ProvisionStanding = ProvisionStanding.PROVIDED
    provision_id: str | None = None
    cause: MailboxEvent = MailboxEvent.CREATE


class MailboxView(NamedTuple):
    """What callers see of a mailbox, for reads: as it is stored, and so instants are microseconds since 1970.

    `status` is the value of a MailboxStatus, the periods are those of a SubscriptionPeriod.
    A page of Mailbox takes four times as long to read, most of it for values that are taken apart again at once.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    email: str
    status: str
    subscription_period: str
    subscription_period_started_at: int
    next_subscription_period: str
    next_subscription_period_starts_at: int | None
    created_at: int
    updated_at: int
    deletion_scheduled_at: int | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A further address of a mailbox, in the mailbox's own domain.

    `provision_id` is the work that the mail platform has been asked for and has not confirmed.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    mailbox_id: str
    email: str
    description: str
    status: AliasStatus
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    provision_id: str | None = None
