"""Many mailboxes for the attacking tenant, inserted directly: through the API they would be hashed for hours."""

import asyncio
from random import Random
from uuid import UUID

from sqlalchemy import insert, select, update

from bench.attack.stack import Tenant
from postroomd.storage import schema as t
from postroomd.storage.drivers import open_engines

CHUNK = 5_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def add_mailboxes(url: str, tenant: Tenant, count: int) -> None:
    """Copy the tenant's first mailbox `count` times, with random local parts."""
    asyncio.run(_add(url, tenant, count))


async def _add(url: str, tenant: Tenant, count: int) -> None:
    random = Random(count)  # noqa: S311 # reproducible, not secret
    engines = open_engines(url, owner=False, pool_size=3)
    try:
        async with engines.writer.begin() as connection:
            found = await connection.execute(select(t.mailboxes).where(t.mailboxes.c.id == tenant.mailbox_id))
            template = dict(found.mappings().one())
            domain_name = template["email"].partition("@")[2]
            for start in range(0, count, CHUNK):
                rows = []
                for number in range(start, min(start + CHUNK, count)):
                    local_part = "".join(random.choices(LETTERS, k=8)) + str(number)
                    identifier = str(UUID(int=random.getrandbits(128), version=4))
                    rows.append(template | {"id": identifier, "email": f"{local_part}@{domain_name}"})
                await connection.execute(insert(t.mailboxes), rows)
            await connection.execute(
                update(t.domains)
                .where(t.domains.c.id == tenant.domain_id)
                .values(mailbox_total_count=t.domains.c.mailbox_total_count + count)
            )
    finally:
        await engines.close()
