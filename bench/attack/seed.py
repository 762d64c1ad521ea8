"""Many mailboxes for the attacking tenant, inserted directly: through the API they would be hashed for hours."""

import asyncio
from collections.abc import Iterator, Mapping
from random import Random
from uuid import UUID

from sqlalchemy import select, update

from bench.attack.stack import Tenant
from bench.bulk import insert_rows, without_indexes
from postroomd.storage import schema as t
from postroomd.storage.drivers import migration_engine

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def add_mailboxes(url: str, tenant: Tenant, count: int) -> None:
    """Copy the tenant's first mailbox `count` times, with random local parts, while no process uses the database."""
    asyncio.run(_add(url, tenant, count))


async def _add(url: str, tenant: Tenant, count: int) -> None:
    engine = migration_engine(url)
    try:
        async with engine.begin() as connection:
            found = await connection.execute(select(t.mailboxes).where(t.mailboxes.c.id == tenant.mailbox_id))
            template = dict(found.mappings().one())
            async with without_indexes(connection, t.mailboxes):
                await insert_rows(connection, t.mailboxes, _copies(template, count))
            await connection.execute(
                update(t.domains)
                .where(t.domains.c.id == tenant.domain_id)
                .values(mailbox_total_count=t.domains.c.mailbox_total_count + count)
            )
    finally:
        await engine.dispose()


def _copies(template: Mapping[str, object], count: int) -> Iterator[Mapping[str, object]]:
    random = Random(count)  # noqa: S311 # reproducible, not secret
    domain_name = str(template["email"]).partition("@")[2]
    for number in range(count):
        local_part = "".join(random.choices(LETTERS, k=8)) + str(number)
        identifier = str(UUID(int=random.getrandbits(128), version=4))
        yield {**template, "id": identifier, "email": f"{local_part}@{domain_name}"}
