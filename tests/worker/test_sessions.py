"""Sessions on the mail server end when a mailbox may no longer log in: requests, batches, retries."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import delete_domain
from postroomd.domain.mailboxes import delete_mailbox, lock_mailbox
from postroomd.domain.model import Domain, Mailbox
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.worker import sessions
from postroomd.worker.doveadm import Doveadm, MailServerError
from postroomd.worker.sessions import REPEAT_AFTER, Sessions
from postroomd.worker.steps import Worker
from tests.support.database_state import count_of, rows_of
from tests.support.factories import NOW, Tenant, new_domain, new_mailboxes
from tests.support.lifecycle import FREE

KEY = "the key of doveadm"


@dataclass
class FakeDovecot:
    """Answers as Dovecot 2.3 does; `connected` are the logins with sessions."""

    connected: set[str] = field(default_factory=set)
    status: int = 200
    broken: bool = False
    kicked: list[list[str]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.authorizations.add(request.headers["Authorization"])
        if self.status != 200:
            return web.Response(status=self.status)
        commands: list[Any] = await request.json()
        self.kicked.append([arguments["mask"][0] for _, arguments, _ in commands])
        answers: list[Any] = []
        for _, arguments, tag in commands:
            if arguments["mask"][0] in self.connected:
                answers.append(["doveadmResponse", [{"result": "1"}], tag])
            else:
                answers.append(["error", {"type": "exitCode", "exitCode": 75 if self.broken else 68}, tag])
        return web.json_response(answers)


@pytest.fixture
async def dovecot() -> AsyncIterator[FakeDovecot]:
    fake = FakeDovecot()
    application = web.Application()
    application.router.add_post("/doveadm/v1", fake.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/doveadm/v1"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def doveadm(dovecot: FakeDovecot) -> AsyncIterator[Doveadm]:
    async with Doveadm(dovecot.url, KEY) as client:
        yield client


async def masks(raw: AsyncEngine) -> list[str]:
    return sorted(row[0] for row in await rows_of(raw, select(t.session_ends.c.login_mask)))


def renamed(mailbox: Mailbox) -> Mailbox:
    return replace(mailbox, updated_at=NOW)


@pytest.mark.parametrize(
    ("change", "password_hash", "ends"),
    [
        (lambda it, status: lock_mailbox(it, status, reason="abuse", now=NOW), None, True),
        (lambda it, _: delete_mailbox(it, timedelta(days=30), NOW), None, True),
        (lambda it, _: replace(it, login_disabled=True), None, True),
        (lambda it, _: replace(it, sending_disabled=True), None, False),
        (lambda it, _: renamed(it), "another hash", True),
        (lambda it, _: renamed(it), None, False),
    ],
)
async def test_a_change_that_ends_sessions_requests_it(
    repository: Repository,
    tenant: Tenant,
    raw: AsyncEngine,
    change: Callable[..., Mailbox],
    password_hash: str | None,
    ends: bool,
) -> None:
    parent = await new_domain(repository, tenant)
    (ann,) = await new_mailboxes(repository, parent, "ann")
    await repository.mailboxes.change(tenant.context, ann.id, change, password_hash)
    assert await masks(raw) == (["ann@example.com"] if ends else [])
    if ends:  # and what changes afterwards ends nothing more
        await repository.mailboxes.change(tenant.context, ann.id, lambda it, _: renamed(it), None)
        assert await count_of(raw, t.session_ends) == 1


async def test_a_domain_that_is_deleted_requests_one_end_for_all_its_mailboxes(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    parent = await new_domain(repository, tenant)
    await new_mailboxes(repository, parent, "ann", "ben")

    def deleting(domain: Domain, mailboxes: int) -> Domain:
        return delete_domain(domain, mailboxes, force=True, now=NOW)

    await repository.domains.delete(tenant.context, parent.id, deleting, NOW)
    assert await masks(raw) == ["*@example.com"]


async def lock(repository: Repository, tenant: Tenant, *local_parts: str) -> None:
    parent = await new_domain(repository, tenant)
    for mailbox in await new_mailboxes(repository, parent, *local_parts):
        await repository.mailboxes.change(
            tenant.context, mailbox.id, lambda it, status: lock_mailbox(it, status, reason="abuse", now=NOW)
        )


async def test_requests_are_carried_out_in_one_batch_and_again_later(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, dovecot: FakeDovecot, doveadm: Doveadm
) -> None:
    await lock(repository, tenant, "ann", "ben")
    dovecot.connected = {"ann@example.com"}
    worker = Worker(work=repository.work, prober=None, policy=FREE, sessions=Sessions(repository.session_ends, doveadm))
    assert (await worker.next_due()).steps == NOW
    assert worker.sessions is not None
    assert await worker.sessions.end(NOW) == 2
    assert [sorted(batch) for batch in dovecot.kicked] == [["ann@example.com", "ben@example.com"]]
    assert await worker.sessions.end(NOW) == 0
    assert (await worker.next_due()).steps == NOW + REPEAT_AFTER
    assert await worker.sessions.end(NOW + REPEAT_AFTER) == 2
    assert await count_of(raw, t.session_ends) == 0
    assert len(dovecot.kicked) == 2
    assert dovecot.authorizations == {"X-Dovecot-API dGhlIGtleSBvZiBkb3ZlYWRt"}


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 500}, {"broken": True}])
async def test_a_failure_is_retried_later_and_later(
    repository: Repository,
    tenant: Tenant,
    raw: AsyncEngine,
    dovecot: FakeDovecot,
    doveadm: Doveadm,
    fault: dict[str, Any],
) -> None:
    await lock(repository, tenant, "ann")
    for name, value in fault.items():
        setattr(dovecot, name, value)
    ending = Sessions(repository.session_ends, doveadm)
    due = []
    now = NOW
    for _ in range(9):
        assert await ending.end(now) == 1
        ((now,),) = await rows_of(raw, select(t.session_ends.c.due_at))
        due.append((now - NOW).total_seconds())
    assert due == [1, 3, 7, 15, 31, 63, 123, 183, 243]
    dovecot.status, dovecot.broken = 200, False
    assert await ending.end(now) == 1
    assert await ending.end(now + REPEAT_AFTER) == 1
    assert await count_of(raw, t.session_ends) == 0


async def test_a_superseded_lease_changes_nothing(repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
    await lock(repository, tenant, "ann")
    lease = timedelta(minutes=1)
    first = await repository.session_ends.lease(NOW, lease, 10)
    assert await repository.session_ends.lease(NOW, lease, 10) == []
    later = NOW + lease
    second = await repository.session_ends.lease(later, lease, 10)
    await repository.session_ends.complete(first, later)
    await repository.session_ends.postpone(first, later)
    assert await repository.session_ends.lease(later, lease, 10) == []
    await repository.session_ends.complete(second, later)
    ((carried_out,),) = await rows_of(raw, select(t.session_ends.c.carried_out))
    assert carried_out


async def test_without_a_mail_server_requests_are_removed(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lock(repository, tenant, "ann", "ben", "carl")
    monkeypatch.setattr(sessions, "BATCH_SIZE", 2)
    ending = Sessions(repository.session_ends)
    assert [await ending.end(NOW) for _ in range(3)] == [2, 1, 0]
    assert await count_of(raw, t.session_ends) == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/doveadm/v1"])
async def test_an_unreachable_mail_server_is_an_error_without_the_key(url: str) -> None:
    async with Doveadm(url, KEY) as client:
        with pytest.raises(MailServerError, match="doveadm: ClientConnectorError") as raised:
            await client.kick(["ann@example.com"])
    assert KEY not in str(raised.value)
