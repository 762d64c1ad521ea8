"""The stored resources as frozen values, and the enums of the contract.

An enum's value is its name in REST and in the database; the upper-case member name is its name in protobuf. Instants
are aware datetimes in UTC. Ids are lower-case UUIDs as text. A `revision` counts the writes of what callers see of a
resource, from 1: two reads of the same revision return the same.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from postroomd.domain.addresses import Address
from postroomd.domain.events import DomainEvent, MailboxEvent, PaymentStanding, ProvisionStanding


class DomainStatus(StrEnum):
    """The status of a domain."""

    CREATING = "creating"
    WAITING_VALIDATION = "waiting_validation"
    VALIDATING = "validating"
    VALIDATION_FAILED = "validation_failed"
    PROVISIONING = "provisioning"
    READY = "ready"
    DELETING = "deleting"


OWNING_STATUSES = (DomainStatus.PROVISIONING, DomainStatus.READY)
"""Statuses in which a domain owns its name among all organizations."""


class RecordStatus(StrEnum):
    """Result of a DNS record's last lookup. UNKNOWN_STATUS: not looked up yet, or the lookup was not answered."""

    UNKNOWN_STATUS = "unknown_status"
    VALIDATING = "validating"
    VALID = "valid"
    INVALID = "invalid"
    NOT_FOUND = "not_found"


class RecordLevel(StrEnum):
    """The importance of a DNS record: a domain becomes ready only with every required one."""

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
    """The status of a mailbox."""

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
    """The length of a subscription period. CANCELED as the next one ends the subscription."""

    CANCELED = "canceled"
    MONTHLY = "monthly"
    YEARLY = "yearly"


class AliasStatus(StrEnum):
    """The status of an alias."""

    PROVISIONING = "provisioning"
    DELETING = "deleting"
    READY = "ready"


class ForwardingStatus(StrEnum):
    """The status of a forwarding."""

    PROVISIONING = "provisioning"
    READY = "ready"
    UPDATING = "updating"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A domain name that an organization has registered for mail, as A-labels in lower case.

    `provision_id` is the pending provision of the domain itself, and `cause` the event of the last transition.

    Of a domain that owns or owned its name: since `token_absent_since` the lookups have not found its validation token,
    time without an answer not counted, and the last lookup was at `token_checked_at`. It was released, which means that
    it lost the name, at `released_at`; None once it is ready again.
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
    cause: DomainEvent = DomainEvent.CREATE
    token_absent_since: datetime | None = None
    token_checked_at: datetime | None = None
    released_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRecord:
    """A DNS record that a domain should publish. `kind` is its field in GetDomainRecordsResponse."""

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
    """A mailbox, without its password, which is written only.

    `period_anchor_at` is the first start, from which the calendar counts periods. `last_paid_period` is the length of
    the last running period: a restore uses it when `subscription_period` is CANCELED.

    A subscription starts with its first payment. Until then `subscription_period` and its two instants are None,
    `last_paid_period` is the period to be paid, and `period_anchor_at` is when the subscription was requested.

    `status` is derived from other fields (mailbox_status.status_of): `purging`, `deletion_scheduled_at`, `lock_reason`
    (of the operator's lock), `payment` and `provision`. `payment_step_at` is the due date of the next step of an unpaid
    payment, `provision_id` the pending provision, and `cause` the event of the last transition.

    `storage_quota_bytes` is 0 for no limit. The three switches restrict the mailbox further than its status does.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    email: str
    status: MailboxStatus
    subscription_period: SubscriptionPeriod | None
    last_paid_period: SubscriptionPeriod
    period_anchor_at: datetime
    subscription_period_started_at: datetime | None
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
    display_name: str = ""
    storage_quota_bytes: int = 0
    login_disabled: bool = False
    sending_disabled: bool = False
    receiving_disabled: bool = False

    @property
    def address(self) -> Address:
        """`email` as a local part and a domain name."""
        return Address.parse(self.email)

    @property
    def never_paid(self) -> bool:
        """Whether no payment of the mailbox was ever confirmed: it still waits for that of its creation."""
        return self.subscription_period is None and self.period_anchor_at == self.created_at

    @property
    def counts_towards_quota(self) -> bool:
        """Whether the mailbox counts towards its project's quota: not if it was deleted before it was ever paid for."""
        deleted = self.status in {MailboxStatus.DELETION_SCHEDULED, MailboxStatus.DELETING}
        return not (deleted and self.never_paid)


class MailboxView(NamedTuple):
    """The fields of a mailbox that callers see, as they are stored: instants are microseconds since 1970.

    `status` is the value of a MailboxStatus, the periods are values of SubscriptionPeriod. Reading a page of Mailbox
    takes four times as long, most of it for conversions that encoding the response would undo.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    email: str
    status: str
    subscription_period: str | None
    subscription_period_started_at: int | None
    next_subscription_period: str
    next_subscription_period_starts_at: int | None
    created_at: int
    updated_at: int
    deletion_scheduled_at: int | None
    revision: int
    display_name: str
    storage_quota_bytes: int
    login_disabled: bool
    sending_disabled: bool
    receiving_disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A further address of a mailbox, in the same domain. `provision_id` is its pending provision.

    A catch-all, of which a domain has at most one, has an empty local part: its `email` is `@` and the domain's name.
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

    @property
    def address(self) -> Address:
        """`email` as a local part and a domain name."""
        return Address.parse(self.email)

    @property
    def catch_all(self) -> bool:
        """Whether the alias receives the mail to every address of the domain that nothing else has."""
        return not self.address.local_part


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """A destination that a mailbox's mail is forwarded to. `provision_id` is its pending provision.

    `email` is the destination, with its domain as A-labels in lower case.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    mailbox_id: str
    email: str
    status: ForwardingStatus
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    provision_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxForwarding:
    """The settings of all forwardings of a mailbox.

    `keep_copy`: forwarded mail is delivered to the mailbox as well. `enabled`: mail is forwarded.
    """

    mailbox_id: str
    organization_id: str
    project_id: str
    keep_copy: bool
    enabled: bool
    created_at: datetime
    updated_at: datetime
    revision: int = 1

    @property
    def id(self) -> str:
        """The mailbox's id, which identifies the settings too."""
        return self.mailbox_id
