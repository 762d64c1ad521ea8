"""The maximum duration of a statement on PostgreSQL, on every connection."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from postroomd.storage.drivers import open_engines
from postroomd.storage.drivers.base import Engines, Failure
from tests.support.databases import NewDatabase

pytestmark = pytest.mark.xdist_group("postgresql")

SHOW = "SHOW statement_timeout"


async def timeouts(engines: Engines) -> set[str]:
    """The timeouts of transactions, and of compiled reads without and with a tenant."""
    assert engines.compiled is not None
    async with engines.writer.connect() as connection:
        shown = {(await connection.execute(text(SHOW))).scalar_one()}
    for path in (engines.compiled.system, engines.compiled.tenant):
        shown |= {row[0] for row in await path.by_key.fetch(SHOW, ())}
    return shown


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0"), (0.25, "250ms"), (30, "30s")])
async def test_every_connection_has_the_timeout(new_postgres_database: NewDatabase, seconds: float, shown: str) -> None:
    engines = open_engines(new_postgres_database(), owner=True, pool_size=3, statement_timeout_seconds=seconds)
    assert await timeouts(engines) == {shown}
    await engines.close()


async def test_a_statement_past_the_timeout_means_unavailable(new_postgres_database: NewDatabase) -> None:
    engines = open_engines(new_postgres_database(), owner=True, pool_size=3, statement_timeout_seconds=0.1)
    async with engines.writer.connect() as connection:
        with pytest.raises(DBAPIError) as canceled:
            await connection.execute(text("SELECT pg_sleep(60)"))
    await engines.close()
    assert engines.driver.classify(canceled.value.orig or canceled.value) is Failure.UNAVAILABLE
