"""Fill a migrated, empty database with one tenant's mailboxes, by the schema alone: `python -m bench.seed URL COUNT`.

A password hash a row would take hours; every mailbox has the same one, of the usual length.
"""

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.calendar import period_end
from postroomd.domain.model import DomainStatus, MailboxStatus, SubscriptionPeriod
from postroomd.storage import tables as t
from postroomd.storage.dialects import migration_engine
from postroomd.storage.migrations import migrate

CHUNK = 5_000
NAMESPACE = UUID("6f0c7a52-4a4e-4c0e-9a53-2f1a4c1f9d10")
START = datetime(2026, 1, 1, tzinfo=UTC)
HASH = (
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"
    + "c2FsdHNhbHRzYWx0c2FsdA"
    + "$"
    + "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
)


def seeded_id(kind: str, number: int = 0) -> str:
    """The id of the `number`th thing of a kind: the same in every seeded database."""
    return str(uuid5(NAMESPACE, f"{kind}/{number}"))


def mailbox_rows(numbers: range) -> Iterator[dict[str, object]]:
    """The rows of the mailboxes with these numbers, created a second apart."""
    monthly = SubscriptionPeriod.MONTHLY
    for number in numbers:
        at = START + timedelta(seconds=number)
        ends = period_end(at, at, monthly)
        yield {
            "id": seeded_id("mailbox", number),
            "organization_id": seeded_id("organization"),
            "project_id": seeded_id("project"),
            "domain_id": seeded_id("domain"),
            "email": f"{local_part(number)}@seeded.example",
            "password_hash": HASH,
            "status": MailboxStatus.READY,
            "subscription_period": monthly,
            "last_paid_period": monthly,
            "period_anchor_at": at,
            "subscription_period_started_at": at,
            "next_subscription_period": monthly,
            "next_subscription_period_starts_at": ends,
            "created_at": at,
            "updated_at": at,
            "due_at": ends,
        }


def local_part(number: int) -> str:
    """The local part of the `number`th mailbox: letters that look like a name's, and the number."""
    letters = seeded_id("name", number).translate(str.maketrans("0123456789abcdef-", "rstlnmoeiabcdefa."))
    return f"{letters[:8]}.{number}"


async def seed(url: str, count: int) -> None:
    """Fill the database at `url` with `count` mailboxes of one domain."""
    engine = migration_engine(url)
    async with engine.begin() as connection:
        await _tenant(connection, count)
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            await connection.execute(insert(t.mailboxes), list(mailbox_rows(numbers)))
            addresses = [
                {
                    "domain_id": seeded_id("domain"),
                    "local_part": local_part(number),
                    "organization_id": seeded_id("organization"),
                    "mailbox_id": seeded_id("mailbox", number),
                }
                for number in numbers
            ]
            await connection.execute(insert(t.addresses), addresses)
    await engine.dispose()


async def _tenant(connection: AsyncConnection, count: int) -> None:
    owner = {"organization_id": seeded_id("organization"), "project_id": seeded_id("project")}
    times = {"created_at": START, "updated_at": START}
    await connection.execute(insert(t.organizations), [{"id": owner["organization_id"], "created_at": START}])
    project = {"id": owner["project_id"], "organization_id": owner["organization_id"], "name": "seeded"}
    quota = {"mailbox_quota": count + 1_000_000, "mailbox_count": count, "created_at": START}
    await connection.execute(insert(t.projects), [project | quota])
    domain = {"id": seeded_id("domain"), "name": "seeded.example", "status": DomainStatus.READY}
    secrets = {"validation_token": "seeded", "dkim_selector": "postroom", "dkim_private_key": "none"}
    await connection.execute(insert(t.domains), [domain | owner | times | secrets | {"mailbox_total_count": count}])


if __name__ == "__main__":
    migrate(sys.argv[1])
    asyncio.run(seed(sys.argv[1], int(sys.argv[2])))
