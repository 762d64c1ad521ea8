"""The seeded database is complete and consistent, and equals what the baselines return."""

import asyncio
from uuid import uuid5

from sqlalchemy import func, inspect, select

from bench.baseline.messages import message, rows
from bench.seed import NAMESPACE, RARE, RARE_NUMBER, SECRET, seed, seeded_id
from postroomd.domain.keys import hash_secret
from postroomd.domain.queries import MailboxQuery, Ordering
from postroomd.rpc.convert import mailbox_message
from postroomd.storage import schema as t
from postroomd.storage.drivers import open_engines
from postroomd.storage.opening import open_repository
from tests.support.databases import NewDatabase
from tests.support.factories import tenant_context

COUNT = 100
CONTEXT = tenant_context(organization_id=seeded_id("organization"))


def test_ids_are_name_based_uuids() -> None:
    for number in range(100):
        assert seeded_id("mailbox", number) == str(uuid5(NAMESPACE, f"mailbox/{number}"))


async def test_baseline_returns_the_seeded_mailboxes(new_database: NewDatabase) -> None:
    url = await asyncio.to_thread(new_database)
    await seed(url, COUNT)
    repository = await open_repository(url)
    try:
        for number, row in enumerate(rows(3)):
            stored = await repository.mailboxes.get(CONTEXT, seeded_id("mailbox", number))
            assert mailbox_message(stored) == message(row)
    finally:
        await repository.close()


async def test_key_total_count_and_rare_address_are_found(new_database: NewDatabase) -> None:
    url = await asyncio.to_thread(new_database)
    await seed(url, COUNT)
    repository = await open_repository(url)
    try:
        key = await repository.tenancy.find_key(hash_secret(SECRET))
        assert key is not None
        assert key.organization_id == CONTEXT.scope.organization_id
        newest = Ordering(field="created_at", descending=True)
        page = await repository.mailboxes.list(CONTEXT, MailboxQuery(ordering=newest, page=1, page_size=10))
        assert page.total_count == COUNT
        rare = await repository.mailboxes.list(
            CONTEXT, MailboxQuery(ordering=newest, page=1, page_size=10, search=RARE)
        )
        assert [mailbox.id for mailbox in rare.items] == [seeded_id("mailbox", RARE_NUMBER)]
    finally:
        await repository.close()


async def test_indexes_are_recreated(new_database: NewDatabase) -> None:
    url, unseeded = [await asyncio.to_thread(new_database) for _ in range(2)]
    await seed(url, COUNT)
    assert await indexes(url) == await indexes(unseeded)


async def test_every_address_is_reserved(new_database: NewDatabase) -> None:
    url = await asyncio.to_thread(new_database)
    await seed(url, COUNT)
    engine = open_engines(url, owner=False, pool_size=1).reader
    async with engine.connect() as connection:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (t.mailboxes, t.aliases, t.addresses)
        ]
    await engine.dispose()
    assert counts == [COUNT, COUNT // 10, COUNT + COUNT // 10]


async def indexes(url: str) -> dict[str, set[str | None]]:
    engine = open_engines(url, owner=False, pool_size=1).reader
    async with engine.connect() as connection:
        names = await connection.run_sync(
            lambda sync: {
                table.name: {index["name"] for index in inspect(sync).get_indexes(table.name)}
                for table in (t.mailboxes, t.aliases, t.addresses)
            }
        )
    await engine.dispose()
    return names
