"""Conversion between protobuf and domain: one function per message, one table per enum.

The tables are built at import: an enum member without its protobuf value fails the start.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeVar
from zlib import crc32

from postroom.v1alpha1 import alias_pb2, domain_pb2, forwarding_pb2, mailbox_pb2
from postroomd.domain.errors import Reason, ResourceName, Stale
from postroomd.domain.model import (
    Alias,
    AliasStatus,
    DnsType,
    Domain,
    DomainRecord,
    DomainStatus,
    Forwarding,
    ForwardingStatus,
    Mailbox,
    MailboxForwarding,
    MailboxStatus,
    MailboxView,
    RecordLevel,
    RecordStatus,
    SubscriptionPeriod,
)
from postroomd.domain.queries import Ordering
from postroomd.domain.validation import Checker
from postroomd.rpc.etags import etag_matches

Member = TypeVar("Member", bound=StrEnum)
Value = TypeVar("Value", Domain, Mailbox, Alias, Forwarding, MailboxForwarding)
Arguments = ParamSpec("Arguments")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUrls:
    """The URL of the webmail and the host names of the mail servers, the same for every domain."""

    webmail: str
    imap: str
    pop3: str
    smtp: str


def enum_numbers(enum: type[Member], wrapper: Any) -> Mapping[str, Any]:
    """Return the protobuf numbers of an enum's members by value. A member, being a string, is a key too."""
    return {member.value: wrapper.Value(member.name) for member in enum}


def _members(enum: type[Member], numbers: Mapping[str, Any]) -> Mapping[int, Member]:
    return {numbers[member]: member for member in enum}


_DOMAIN_STATUS = enum_numbers(DomainStatus, domain_pb2.Domain.Status)
_RECORD_STATUS = enum_numbers(RecordStatus, domain_pb2.DomainRecord.Status)
_RECORD_LEVEL = enum_numbers(RecordLevel, domain_pb2.DomainRecord.Level)
_DNS_TYPE = enum_numbers(DnsType, domain_pb2.DomainRecord.DnsType)
_MAILBOX_STATUS = enum_numbers(MailboxStatus, mailbox_pb2.Mailbox.Status)
_PERIOD = enum_numbers(SubscriptionPeriod, mailbox_pb2.Mailbox.SubscriptionPeriod)
_ALIAS_STATUS = enum_numbers(AliasStatus, alias_pb2.Alias.Status)
_FORWARDING_STATUS = enum_numbers(ForwardingStatus, forwarding_pb2.Forwarding.Status)

DOMAIN_STATUSES = _members(DomainStatus, _DOMAIN_STATUS)
MAILBOX_STATUSES = _members(MailboxStatus, _MAILBOX_STATUS)
ALIAS_STATUSES = _members(AliasStatus, _ALIAS_STATUS)
FORWARDING_STATUSES = _members(ForwardingStatus, _FORWARDING_STATUS)
PERIODS = _members(SubscriptionPeriod, _PERIOD)


def _orderings(wrapper: Any, renamed: Mapping[str, str]) -> Mapping[int, Ordering]:
    """Return the orderings of a list by number: CREATED_AT_DESC is the field created_at, descending."""
    orderings = {}
    for name, number in wrapper.items():
        field, _, direction = name.lower().rpartition("_")
        orderings[int(number)] = Ordering(field=renamed.get(field, field), descending=direction == "desc")
    return orderings


DOMAIN_ORDERINGS = _orderings(domain_pb2.ListDomainsRequest.OrderBy, {})
MAILBOX_ORDERINGS = _orderings(mailbox_pb2.ListMailboxesRequest.OrderBy, {})
ALIAS_ORDERINGS = _orderings(alias_pb2.ListAliasesRequest.OrderBy, {"name": "email"})
FORWARDING_ORDERINGS = _orderings(forwarding_pb2.ListForwardingsRequest.OrderBy, {})


def optional_member(check: Checker, field: str, number: int, members: Mapping[int, Member]) -> Member | None:
    """Return the enum member of a number, None for 0 (not set). Another number is a violation."""
    if number != 0 and number not in members:
        _reject_number(check, field, members.values())
    return members.get(number)


def distinct_members(
    check: Checker, field: str, numbers: Sequence[int], members: Mapping[int, Member]
) -> tuple[Member, ...]:
    """Return the enum members of numbers, without duplicates. 0 (not set) is skipped."""
    found = (optional_member(check, f"{field}[{i}]", number, members) for i, number in enumerate(numbers))
    return tuple(dict.fromkeys(member for member in found if member is not None))


def ordering(check: Checker, number: int, orderings: Mapping[int, Ordering]) -> Ordering:
    """Return the ordering of an OrderBy number. Another number is a violation."""
    if number not in orderings:
        check.refuse("order_by", Reason.CONSTRAINT, "must be a value of the enum OrderBy")
    return orderings.get(number, orderings[0])


def _reject_number(check: Checker, field: str, members: Iterable[StrEnum]) -> None:
    check.refuse(field, Reason.CONSTRAINT, f"must be one of {', '.join(members)}")


def timestamp(instant: datetime) -> Any:
    """Return a protobuf timestamp with microseconds, as an argument of a message's constructor.

    A mapping: half the cost of a Timestamp, which the constructor would copy.
    """
    since = instant - _EPOCH  # whole numbers: a float can't represent microseconds since 1970 exactly
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1_000}


def optional_timestamp(instant: datetime | None) -> Any:
    """Return a protobuf timestamp, or None."""
    return None if instant is None else timestamp(instant)


def etag(value: Mailbox | MailboxView | Alias | Forwarding | MailboxForwarding) -> str:
    """Return the etag of a resource: it changes with every revision."""
    return f"{value.revision:x}"


def domain_etag(domain: Domain, urls: ServiceUrls) -> str:
    """Return the etag of a domain: it also changes with the service's URLs, which are part of the message."""
    return f"{domain.revision:x}-{_fingerprint(urls):x}"


@cache
def _fingerprint(urls: ServiceUrls) -> int:
    return crc32(repr(urls).encode())


def require_etag(
    expected: str,
    etag_of: Callable[[Value], str],
    resource: str,
    rule: Callable[Concatenate[Value, Arguments], Value],
) -> Callable[Concatenate[Value, Arguments], Value]:
    """Return a rule that raises Stale if the resource's etag is not the expected one. "" expects none."""

    def apply(value: Value, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
        if expected and not etag_matches(expected, etag_of(value)):
            raise Stale(ResourceName(resource, value.id))
        return rule(value, *args, **kwargs)

    return apply


def domain_message(domain: Domain, urls: ServiceUrls) -> domain_pb2.Domain:
    """Return the message of a domain."""
    return domain_pb2.Domain(
        id=domain.id,
        project_id=domain.project_id,
        organization_id=domain.organization_id,
        name=domain.name,
        status=_DOMAIN_STATUS[domain.status],
        mailbox_total_count=domain.mailbox_total_count,
        webmail_url=urls.webmail,
        imap_url=urls.imap,
        pop3_url=urls.pop3,
        smtp_url=urls.smtp,
        created_at=timestamp(domain.created_at),
        updated_at=timestamp(domain.updated_at),
        etag=domain_etag(domain, urls),
    )


def record_message(record: DomainRecord) -> domain_pb2.DomainRecord:
    """Return the message of a DNS record."""
    return domain_pb2.DomainRecord(
        id=record.id,
        domain_id=record.domain_id,
        status=_RECORD_STATUS[record.status],
        level=_RECORD_LEVEL[record.level],
        dns_type=_DNS_TYPE[record.dns_type],
        dns_name=record.dns_name,
        dns_value=record.dns_value,
        error=record.error,
        created_at=timestamp(record.created_at),
        updated_at=timestamp(record.updated_at),
    )


def records_message(records: Mapping[str, DomainRecord]) -> domain_pb2.GetDomainRecordsResponse:
    """Return the message of a domain's DNS records by kind."""
    messages: dict[str, Any] = {kind: record_message(record) for kind, record in records.items()}
    return domain_pb2.GetDomainRecordsResponse(**messages)


def mailbox_message(mailbox: Mailbox) -> mailbox_pb2.Mailbox:
    """Return the message of a mailbox."""
    return mailbox_pb2.Mailbox(**_mailbox_fields(mailbox, optional_timestamp))


def mailbox_view_message(mailbox: MailboxView) -> mailbox_pb2.Mailbox:
    """Return the message of a mailbox view."""
    return mailbox_pb2.Mailbox(**_mailbox_fields(mailbox, _timestamp_of_microseconds))


def mailbox_view_messages(mailboxes: Sequence[MailboxView]) -> Any:
    """Return the messages of mailbox views, as an argument of a message's constructor.

    Mappings: the constructor would copy each message.
    """
    return [_mailbox_fields(mailbox, _timestamp_of_microseconds) for mailbox in mailboxes]


def _timestamp_of_microseconds(microseconds: int | None) -> Any:
    if microseconds is None:
        return None
    seconds, remainder = divmod(microseconds, 1_000_000)
    return {"seconds": seconds, "nanos": remainder * 1_000}


def _mailbox_fields(mailbox: Mailbox | MailboxView, to_timestamp: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "id": mailbox.id,
        "project_id": mailbox.project_id,
        "organization_id": mailbox.organization_id,
        "domain_id": mailbox.domain_id,
        "email": mailbox.email,
        "status": _MAILBOX_STATUS[mailbox.status],
        "subscription_period": _PERIOD[mailbox.subscription_period] if mailbox.subscription_period else 0,
        "subscription_period_started_at": to_timestamp(mailbox.subscription_period_started_at),
        "next_subscription_period": _PERIOD[mailbox.next_subscription_period],
        "next_subscription_period_starts_at": to_timestamp(mailbox.next_subscription_period_starts_at),
        "created_at": to_timestamp(mailbox.created_at),
        "updated_at": to_timestamp(mailbox.updated_at),
        "deletion_scheduled_at": to_timestamp(mailbox.deletion_scheduled_at),
        "etag": etag(mailbox),
        "display_name": mailbox.display_name,
        "storage_quota_bytes": mailbox.storage_quota_bytes,
        "login_disabled": mailbox.login_disabled,
        "sending_disabled": mailbox.sending_disabled,
        "receiving_disabled": mailbox.receiving_disabled,
    }


def alias_message(alias: Alias) -> alias_pb2.Alias:
    """Return the message of an alias."""
    return alias_pb2.Alias(
        id=alias.id,
        email=alias.email,
        mailbox_id=alias.mailbox_id,
        description=alias.description,
        status=_ALIAS_STATUS[alias.status],
        created_at=timestamp(alias.created_at),
        updated_at=timestamp(alias.updated_at),
        etag=etag(alias),
        catch_all=alias.catch_all,
    )


def forwarding_message(forwarding: Forwarding) -> forwarding_pb2.Forwarding:
    """Return the message of a forwarding."""
    return forwarding_pb2.Forwarding(
        id=forwarding.id,
        mailbox_id=forwarding.mailbox_id,
        email=forwarding.email,
        status=_FORWARDING_STATUS[forwarding.status],
        created_at=timestamp(forwarding.created_at),
        updated_at=timestamp(forwarding.updated_at),
        etag=etag(forwarding),
    )


def mailbox_forwarding_message(settings: MailboxForwarding) -> forwarding_pb2.MailboxForwarding:
    """Return the message of the settings of a mailbox's forwardings."""
    return forwarding_pb2.MailboxForwarding(
        mailbox_id=settings.mailbox_id,
        keep_copy=settings.keep_copy,
        enabled=settings.enabled,
        created_at=timestamp(settings.created_at),
        updated_at=timestamp(settings.updated_at),
        etag=etag(settings),
    )
