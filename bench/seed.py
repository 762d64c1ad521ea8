"""Fill a migrated, empty database with one tenant's mailboxes, by the schema alone: `python -m bench.seed URL COUNT`.

A password hash a row would take hours; every mailbox has the same one, of the usual length. Every tenth has an alias.
The tenant's key has a secret that anybody can make: it is good for measuring alone.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.bulk import Rows, without_indexes, write_rows
from postroomd.domain.calendar import period_end
from postroomd.domain.keys import ACCESS_KEY_PREFIX, ACCESS_KEY_RANDOM, hash_secret
from postroomd.domain.model import AliasStatus, DomainStatus, MailboxStatus, SubscriptionPeriod
from postroomd.storage import schema as t
from postroomd.storage.drivers import migration_engine
from postroomd.storage.migrations import migrate

NAMESPACE = UUID("6f0c7a52-4a4e-4c0e-9a53-2f1a4c1f9d10")
START = datetime(2026, 1, 1, tzinfo=UTC)
HASH = (
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"
    + "c2FsdHNhbHRzYWx0c2FsdA"
    + "$"
    + "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
)
DOMAIN = "seeded.example"
ALIAS_EVERY = 10
RARE_NUMBER = 77
RARE = "zyzzyva"
"""What one address alone contains, that of mailbox RARE_NUMBER: the other local parts have no z."""

_LETTERS = str.maketrans("0123456789abcdef-", "rstlnmoeiabcdefa.")


def seeded_id(kind: str, number: int = 0) -> str:
    """The id of the `number`th thing of a kind: the same in every seeded database."""
    # str(uuid5(NAMESPACE, …)), which takes four times as long, and there are millions.
    digits = sha1(NAMESPACE.bytes + f"{kind}/{number}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


SECRET = seeded_id("secret")
"""The secret of the tenant's key."""


def mailbox_rows(numbers: range, start: datetime = START, apart: timedelta = timedelta(seconds=1)) -> Rows:
    """The rows of the mailboxes with these numbers, created from `start` on."""
    monthly = SubscriptionPeriod.MONTHLY
    organization_id, project_id, domain_id = map(seeded_id, ("organization", "project", "domain"))
    for number in numbers:
        at = start + number * apart
        ends = period_end(at, at, monthly)
        yield {
            "id": seeded_id("mailbox", number),
            "organization_id": organization_id,
            "project_id": project_id,
            "domain_id": domain_id,
            "email": f"{local_part(number)}@{DOMAIN}",
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


def alias_rows(mailboxes: range) -> Rows:
    """The rows of the aliases that the mailboxes with these numbers have."""
    owner = {f"{kind}_id": seeded_id(kind) for kind in ("organization", "project", "domain")}
    for number in mailboxes:
        if number % ALIAS_EVERY == 0:
            at = START + timedelta(seconds=number)
            yield owner | {
                "id": seeded_id("alias", number),
                "mailbox_id": seeded_id("mailbox", number),
                "email": f"{alias_local_part(number)}@{DOMAIN}",
                "description": "",
                "status": AliasStatus.READY,
                "created_at": at,
                "updated_at": at,
            }


def address_rows(mailboxes: range) -> Rows:
    """The rows that keep the addresses of these mailboxes and of their aliases unique."""
    owner = {"organization_id": seeded_id("organization"), "domain_id": seeded_id("domain")}
    for number in mailboxes:
        yield owner | {"local_part": local_part(number), "mailbox_id": seeded_id("mailbox", number), "alias_id": None}
        if number % ALIAS_EVERY == 0:
            alias = {"local_part": alias_local_part(number), "alias_id": seeded_id("alias", number)}
            yield owner | alias | {"mailbox_id": None}


def local_part(number: int) -> str:
    """The local part of the `number`th mailbox: letters that look like a name's, and the number."""
    letters = RARE if number == RARE_NUMBER else seeded_id("name", number).translate(_LETTERS)[:8]
    return f"{letters}.{number}"


def alias_local_part(number: int) -> str:
    """The local part of the alias that the `number`th mailbox has."""
    return f"alias.{number}"


async def seed(url: str, count: int, start: datetime = START, apart: timedelta = timedelta(seconds=1)) -> None:
    """Fill the database at `url` with `count` mailboxes of one domain, created from `start` on."""
    numbers = range(count)
    engine = migration_engine(url)
    async with engine.begin() as connection:
        await _tenant(connection, count)
        async with without_indexes(connection, t.mailboxes, t.aliases, t.addresses):
            await write_rows(connection, t.mailboxes, mailbox_rows(numbers, start, apart))
            await write_rows(connection, t.aliases, alias_rows(numbers))
            await write_rows(connection, t.addresses, address_rows(numbers))
    await engine.dispose()


async def _tenant(connection: AsyncConnection, count: int) -> None:
    owner = {"organization_id": seeded_id("organization"), "project_id": seeded_id("project")}
    times = {"created_at": START, "updated_at": START}
    await connection.execute(insert(t.organizations), [{"id": owner["organization_id"], "created_at": START}])
    project = {"id": owner["project_id"], "organization_id": owner["organization_id"], "name": "seeded"}
    quota = {"mailbox_quota": count + 1_000_000, "mailbox_count": count, "created_at": START}
    await connection.execute(insert(t.projects), [project | quota])
    digest = hash_secret(SECRET)
    key = {"access_key": ACCESS_KEY_PREFIX + "S" * ACCESS_KEY_RANDOM, "read_only": False, "created_at": START}
    secret = {"secret_hash": digest, "secret_prefix": digest[:8], "default_project_id": owner["project_id"]}
    await connection.execute(insert(t.api_keys), [key | secret | {"organization_id": owner["organization_id"]}])
    domain = {"id": seeded_id("domain"), "name": DOMAIN, "status": DomainStatus.READY}
    secrets = {"validation_token": "seeded", "dkim_selector": "postroom", "dkim_private_key": "none"}
    await connection.execute(insert(t.domains), [domain | owner | times | secrets | {"mailbox_total_count": count}])


if __name__ == "__main__":
    migrate(sys.argv[1])
    asyncio.run(seed(sys.argv[1], int(sys.argv[2])))
