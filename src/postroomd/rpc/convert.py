"""Between protobuf and the domain: one function a message, one table an enum.

The tables are made when this module is imported, so that an enum value without its twin stops the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeVar
from zlib import crc32

from postroom.v1alpha1 import alias_pb2, domain_pb2, mailbox_pb2
from postroomd.domain.errors import Reason, ResourceName, Stale
from postroomd.domain.model import (
    Alias,
    AliasStatus,
    DnsType,
    Domain,
    DomainRecord,
    DomainStatus,
    Mailbox,
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
Value = TypeVar("Value", Domain, Mailbox, Alias)
Rest = ParamSpec("Rest")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUrls:
    """Where the users of every domain reach their mail."""

    webmail: str
    imap: str
    pop3: str
    smtp: str


def numbers(enum: type[Member], wrapper: Any) -> Mapping[str, Any]:
    """The numbers that an enum's members have in protobuf, by their values: a member finds its own too."""
    return {member.value: wrapper.Value(member.name) for member in enum}


def _members(enum: type[Member], numbers: Mapping[str, Any]) -> Mapping[int, Member]:
    return {numbers[member]: member for member in enum}


_DOMAIN_STATUS = numbers(DomainStatus, domain_pb2.Domain.Status)
_RECORD_STATUS = numbers(RecordStatus, domain_pb2.DomainRecord.Status)
_RECORD_LEVEL = numbers(RecordLevel, domain_pb2.DomainRecord.Level)
_DNS_TYPE = numbers(DnsType, domain_pb2.DomainRecord.DnsType)
_MAILBOX_STATUS = numbers(MailboxStatus, mailbox_pb2.Mailbox.Status)
_PERIOD = numbers(SubscriptionPeriod, mailbox_pb2.Mailbox.SubscriptionPeriod)
_ALIAS_STATUS = numbers(AliasStatus, alias_pb2.Alias.Status)

DOMAIN_STATUSES = _members(DomainStatus, _DOMAIN_STATUS)
MAILBOX_STATUSES = _members(MailboxStatus, _MAILBOX_STATUS)
ALIAS_STATUSES = _members(AliasStatus, _ALIAS_STATUS)
PERIODS = _members(SubscriptionPeriod, _PERIOD)


def _orderings(wrapper: Any, renamed: Mapping[str, str]) -> Mapping[int, Ordering]:
    """The orders of a list, by number: CREATED_AT_DESC is the field created_at, descending."""
    orderings = {}
    for name, number in wrapper.items():
        field, _, direction = name.lower().rpartition("_")
        orderings[int(number)] = Ordering(field=renamed.get(field, field), descending=direction == "desc")
    return orderings


DOMAIN_ORDERINGS = _orderings(domain_pb2.ListDomainsRequest.OrderBy, {})
MAILBOX_ORDERINGS = _orderings(mailbox_pb2.ListMailboxesRequest.OrderBy, {})
ALIAS_ORDERINGS = _orderings(alias_pb2.ListAliasesRequest.OrderBy, {"name": "email"})


def optional_member(check: Checker, field: str, number: int, members: Mapping[int, Member]) -> Member | None:
    """The member of an enum's number; None for 0, which means not set. Others are violations."""
    if number != 0 and number not in members:
        _refuse_number(check, field, members.values())
    return members.get(number)


def several_members(
    check: Checker, field: str, numbers: Sequence[int], members: Mapping[int, Member]
) -> tuple[Member, ...]:
    """The members of an enum's numbers, each once; 0 means not set and is passed over."""
    found = (optional_member(check, f"{field}[{i}]", number, members) for i, number in enumerate(numbers))
    return tuple(dict.fromkeys(member for member in found if member is not None))


def ordering(check: Checker, number: int, orderings: Mapping[int, Ordering]) -> Ordering:
    """The order of a list by the number of its enum's value."""
    if number not in orderings:
        _refuse_number(check, "order_by", ())
    return orderings.get(number, orderings[0])


def _refuse_number(check: Checker, field: str, members: Any) -> None:
    known = ", ".join(member.value for member in members)
    check.refuse(field, Reason.CONSTRAINT, f"one of {known}" if known else "a value of the enum")


def timestamp(instant: datetime) -> Any:
    """A protobuf timestamp, to the microsecond, as a message's constructor takes it.

    It takes a mapping too, at half the cost of a message that is made first and copied then.
    """
    # A float can't hold microseconds since 1970 exactly.
    since = instant - _EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1_000}


def optional_timestamp(instant: datetime | None) -> Any:
    """A protobuf timestamp, or none."""
    return None if instant is None else timestamp(instant)


def etag(value: Mailbox | MailboxView | Alias) -> str:
    """The etag of a value: another one with every change of it."""
    return f"{value.revision:x}"


def domain_etag(domain: Domain, urls: ServiceUrls) -> str:
    """The etag of a domain, which tells of the operator's URLs too."""
    return f"{domain.revision:x}-{_fingerprint(urls):x}"


@cache
def _fingerprint(urls: ServiceUrls) -> int:
    return crc32(repr(urls).encode())


def guarded(
    sent: str, current: Callable[[Value], str], resource: str, rule: Callable[Concatenate[Value, Rest], Value]
) -> Callable[Concatenate[Value, Rest], Value]:
    """A storage rule behind an etag: it raises Stale where the caller named one that is not the value's any more."""

    def apply(value: Value, /, *rest: Rest.args, **named: Rest.kwargs) -> Value:
        if sent and not etag_matches(sent, current(value)):
            raise Stale(ResourceName(resource, value.id))
        return rule(value, *rest, **named)

    return apply


def domain_message(domain: Domain, urls: ServiceUrls) -> domain_pb2.Domain:
    """A domain as the contract has it."""
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
    """A DNS record as the contract has it."""
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
    """A domain's DNS records by kind, as the contract has them."""
    messages: dict[str, Any] = {kind: record_message(record) for kind, record in records.items()}
    return domain_pb2.GetDomainRecordsResponse(**messages)


def mailbox_message(mailbox: Mailbox) -> mailbox_pb2.Mailbox:
    """A mailbox as the contract has it."""
    return mailbox_pb2.Mailbox(**_mailbox_fields(mailbox, optional_timestamp))


def shown_mailbox(mailbox: MailboxView) -> mailbox_pb2.Mailbox:
    """What callers see of a mailbox, as the contract has it."""
    return mailbox_pb2.Mailbox(**_mailbox_fields(mailbox, _stored_timestamp))


def listed_mailboxes(mailboxes: Sequence[MailboxView]) -> Any:
    """Mailboxes of a list as the contract has them, as a message's constructor takes them.

    They are made with the message that holds them, rather than first and copied into it.
    """
    return [_mailbox_fields(mailbox, _stored_timestamp) for mailbox in mailboxes]


def _stored_timestamp(microseconds: int | None) -> Any:
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)
    return {"seconds": seconds, "nanos": rest * 1_000}


def _mailbox_fields(mailbox: Mailbox | MailboxView, instant: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "id": mailbox.id,
        "project_id": mailbox.project_id,
        "organization_id": mailbox.organization_id,
        "domain_id": mailbox.domain_id,
        "email": mailbox.email,
        "status": _MAILBOX_STATUS[mailbox.status],
        "subscription_period": _PERIOD[mailbox.subscription_period],
        "subscription_period_started_at": instant(mailbox.subscription_period_started_at),
        "next_subscription_period": _PERIOD[mailbox.next_subscription_period],
        "next_subscription_period_starts_at": instant(mailbox.next_subscription_period_starts_at),
        "created_at": instant(mailbox.created_at),
        "updated_at": instant(mailbox.updated_at),
        "deletion_scheduled_at": instant(mailbox.deletion_scheduled_at),
        "etag": etag(mailbox),
    }


def alias_message(alias: Alias) -> alias_pb2.Alias:
    """An alias as the contract has it."""
    return alias_pb2.Alias(
        id=alias.id,
        email=alias.email,
        mailbox_id=alias.mailbox_id,
        description=alias.description,
        status=_ALIAS_STATUS[alias.status],
        created_at=timestamp(alias.created_at),
        updated_at=timestamp(alias.updated_at),
        etag=etag(alias),
    )
