"""A rolling restart of services and gateways on PostgreSQL, through deploy/haproxy/haproxy.cfg: no call fails."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import run
from tests.support.databases import NewDatabase
from tests.support.haproxy import Site, site_behind_haproxy, under_load


@pytest.fixture
def site(tmp_path: Path, new_postgres_database: NewDatabase) -> Iterator[Site]:
    url = new_postgres_database()
    created = run("keys", "create", "--new-organization", "--output=json", POSTROOM_DATABASE_URL=url)
    assert created.returncode == 0, created.stderr
    with site_behind_haproxy(tmp_path, url, json.loads(created.stdout)["SCW_SECRET_KEY"]) as started:
        yield started


async def test_a_rolling_restart_under_load_fails_no_call(site: Site) -> None:
    await site.all_in_use()
    async with under_load(site) as load:
        await load.more()
        for name in ("service1", "service2", "gateway1", "gateway2"):
            await site.restart(name)
            await load.more()
    assert load.failed == []
    assert set(load.done) == {"read", "change", "grpc"}
