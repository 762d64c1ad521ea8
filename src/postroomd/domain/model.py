"""What Postroom keeps: frozen values, and the enums of the contract.

An enum's value is the name that REST callers see and that the database stores; the upper-case member name is the
one in protobuf. Times are aware datetimes in UTC. Ids are lower-case UUIDs as text. A `revision` counts the
writes of what callers see of a value, from 1: two reads with one revision saw the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from postroomd.domain.facts import MailboxEvent, PaymentStanding, ProvisionStanding


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
    """What the last look-up of a DNS record found. UNKNOWN_STATUS: it has not been looked up."""

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
class Organization:
    """A tenant: nothing of one organization is visible to another."""

    id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A part of an organization, with its own mailbox quota.

    `mailbox_count` counts the mailboxes that are not purged yet.
    """

    id: str
    organization_id: str
    name: str
    mailbox_quota: int
    mailbox_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of an organization; its secret is kept as a SHA-256 digest alone.

    `project_id` limits the key to one project where it is set. `default_project_id` is the project of what it creates
    without naming one.
    """

    access_key: str
    organization_id: str
    project_id: str | None
    default_project_id: str
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKey:
    """A key of the operator's; its secret is kept as a SHA-256 digest alone. `name` is no other admin key's."""

    name: str
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a caller can reach: one organization, or one project of it."""

    organization_id: str
    project_id: str | None = None


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


class ListedMailbox(NamedTuple):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """The order of a list: by one field, ties broken by id in the same direction."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an ordered list: right after the item with this value of the order's field, and this id."""

    value: datetime | str | int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainQuery:
    """Which domains to list. Empty filters match everything; `page` counts from 1, and is 1 where `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    project_id: str | None = None
    statuses: tuple[DomainStatus, ...] = ()
    search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxQuery:
    """Which mailboxes to list. Empty filters match everything; `page` counts from 1, and is 1 where `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    domain_id: str | None = None
    project_id: str | None = None
    statuses: tuple[MailboxStatus, ...] = ()
    search: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasQuery:
    """Which aliases to list. Empty filters match everything; `page` counts from 1, and is 1 where `after` is set."""

    ordering: Ordering
    page: int
    page_size: int
    after: Position | None = None
    mailbox_id: str | None = None
    project_id: str | None = None
    status: AliasStatus | None = None


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list; `total_count` counts the matches on all pages, and `has_more` tells of further ones."""

    items: Sequence[Item]
    total_count: int
    has_more: bool = False
