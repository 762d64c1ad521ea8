"""The seeded mailboxes as rows in memory, and their conversion to messages by the simplest means."""

from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from bench.seed import mailbox_rows
from postroom.v1alpha1 import mailbox_pb2
from postroomd.storage.schema import EPOCH, MICROSECOND

MICROSECONDS_PER_SECOND = 1_000_000


class Row(NamedTuple):
    """A mailbox as a database driver returns it. Instants are microseconds since 1970."""

    id: str
    project_id: str
    organization_id: str
    domain_id: str
    email: str
    started_at: int
    next_starts_at: int
    created_at: int
    updated_at: int


def rows(count: int) -> list[Row]:
    """Return the first `count` seeded mailboxes."""
    texts = ("id", "project_id", "organization_id", "domain_id", "email")
    instants = ("subscription_period_started_at", "next_subscription_period_starts_at", "created_at", "updated_at")
    seeded: list[dict[str, Any]] = [dict(row) for row in mailbox_rows(range(count))]
    return [
        Row(*(row[name] for name in texts), *((row[name] - EPOCH) // MICROSECOND for name in instants))
        for row in seeded
    ]


def message(row: Row) -> mailbox_pb2.Mailbox:
    """Return the message of a row."""
    return mailbox_pb2.Mailbox(
        id=row.id,
        project_id=row.project_id,
        organization_id=row.organization_id,
        domain_id=row.domain_id,
        email=row.email,
        status=mailbox_pb2.Mailbox.READY,
        subscription_period=mailbox_pb2.Mailbox.MONTHLY,
        subscription_period_started_at=_timestamp(row.started_at),
        next_subscription_period=mailbox_pb2.Mailbox.MONTHLY,
        next_subscription_period_starts_at=_timestamp(row.next_starts_at),
        created_at=_timestamp(row.created_at),
        updated_at=_timestamp(row.updated_at),
        etag="1",
    )


def _timestamp(microseconds: int) -> Timestamp:
    seconds, remainder = divmod(microseconds, MICROSECONDS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=remainder * 1_000)
