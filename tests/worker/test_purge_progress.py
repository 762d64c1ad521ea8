"""The log of the purge of a large domain."""

from functools import partial

import pytest
from structlog.testing import capture_logs

from postroomd.domain.domains import delete_domain
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.work import DomainPurge
from postroomd.worker import steps
from postroomd.worker.purge_progress import LOG_INTERVAL, PurgeProgress
from postroomd.worker.steps import Worker
from tests.support.factories import NOW, Tenant, new_domain, new_mailboxes
from tests.support.lifecycle import FREE
from tests.support.worker import drain


def test_the_begin_the_progress_from_time_to_time_and_the_end_are_logged() -> None:
    progress = PurgeProgress()
    with capture_logs() as logged:
        for number in range(100):
            progress.record(DomainPurge("domain", 200, 20_000 - 200 * (number + 1)), NOW + number * LOG_INTERVAL / 40)
        progress.record(DomainPurge("domain", 0, 0, removed=True), NOW)
    assert [(each["event"], each["mailboxes"], each.get("remaining")) for each in logged] == [
        ("purging domain", 200, 19_800),
        ("purging domain", 8_200, 11_800),
        ("purging domain", 16_200, 3_800),
        ("domain purged", 20_000, None),
    ]


def test_a_purge_of_one_batch_and_one_that_only_asks_the_mail_platform_log_no_end() -> None:
    progress = PurgeProgress()
    with capture_logs() as logged:
        progress.record(DomainPurge("small", 3, 0), NOW)
        progress.record(DomainPurge("small", 0, 0, removed=True), NOW)
        progress.record(DomainPurge("large", 200, 300), NOW)
        progress.record(DomainPurge("large", 0, 300), NOW)
    assert [(each["event"], each["domain_id"]) for each in logged] == [("purging domain", "large")]


async def test_the_worker_logs_the_purge_of_a_domain_of_several_batches(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BATCH_SIZE", 2)
    domain = await new_domain(repository, tenant)
    await new_mailboxes(repository, domain, *"abcde")
    rule = partial(delete_domain, force=True, now=NOW)
    await repository.domains.delete(tenant.context, domain.id, rule, NOW)
    worker = Worker(work=repository.work, prober=None, policy=FREE)
    with capture_logs() as logged:
        await drain(worker, NOW)
    assert [(each["event"], each["domain_id"], each["mailboxes"]) for each in logged if "purg" in each["event"]] == [
        ("purging domain", domain.id, 2),
        ("domain purged", domain.id, 5),
    ]
