"""The examination of an installation, for `postroom doctor`: every check that the settings allow. Changes nothing."""

import asyncio
from datetime import UTC, datetime

from postroomd.clock import Clock
from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.errors import PostroomError, StorageUnavailable
from postroomd.runtime.doctor.domains import Progress, look_up_domains
from postroomd.runtime.doctor.processes import (
    check_backlog,
    check_certificates,
    check_clock,
    check_gateway,
    check_service,
    check_worker,
    database_error,
)
from postroomd.runtime.doctor.secret_keys import check_secret_keys
from postroomd.runtime.errors import FatalError, operator_message
from postroomd.runtime.processes import require_database
from postroomd.settings import Settings
from postroomd.storage.failures import located
from postroomd.storage.migrations import HEAD, require_current
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository

LOOKUPS_OFF = Finding(
    check="dns lookups",
    condition=Condition.OK,
    detail="off, since --domain-validation is trust: nothing was looked up; --look-up does it now",
)


async def examine(settings: Settings, look_up: Progress | None = None) -> list[Finding]:
    """Return the findings: on the database first, then on the processes and certificates.

    `look_up` receives the progress of looking up the records of each ready domain; without it, the worker's findings
    are reported.
    """
    now = datetime.now(UTC)
    database, service, gateway = await asyncio.gather(
        _examine_database(settings, now, look_up), check_service(settings), asyncio.to_thread(check_gateway, settings)
    )
    return [*database, service, gateway, *await asyncio.to_thread(lambda: [*check_certificates(settings, now)])]


async def _examine_database(settings: Settings, now: datetime, look_up: Progress | None) -> list[Finding]:
    url = settings.database_url.get_secret_value()
    try:
        require_database(settings)
        await asyncio.to_thread(require_current, url)
        repository = await open_repository(url)
    except (PostroomError, FatalError, OSError) as error:
        return [*database_error(operator_message(error) or type(error).__name__)]
    try:
        findings = [Finding(check="database", condition=Condition.OK, detail=f"reachable, at schema {HEAD}")]
        findings.append(await asyncio.to_thread(check_secret_keys, settings, await repository.secrets.counts()))
        trusting = settings.domain_validation == "trust"
        findings += await repository.diagnose(with_records=look_up is None and not trusting)
        if look_up is None and trusting:
            findings.append(LOOKUPS_OFF)
        if look_up is not None:
            findings += await _look_up(settings, repository, look_up)
        records = await repository.clocks.read()
        findings.append(check_clock(settings, Clock().read(), records))
        findings.append(check_worker(records, now))
        findings.append(check_backlog(await repository.work.next_due(), now))
    except PostroomError as error:
        located_error = located(url, error) if isinstance(error, StorageUnavailable) else error
        return [*database_error(operator_message(located_error) or type(error).__name__)]
    finally:
        await repository.close()
    return findings


async def _look_up(settings: Settings, repository: Repository, progress: Progress) -> list[Finding]:
    from postroomd.runtime.dns import dns_prober

    try:
        prober = dns_prober(settings)
    except ValueError as error:
        remedy = "set --dns-resolvers to the resolvers of the worker"
        return [Finding(check="dns lookups", condition=Condition.ERROR, detail=str(error), remedy=remedy)]
    return await look_up_domains(repository, prober, progress)
