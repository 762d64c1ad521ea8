"""The examination of an installation, for `postroom doctor`: every check that the settings allow. Changes nothing."""

import asyncio
from datetime import UTC, datetime

from postroomd.clock import Clock
from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.errors import PostroomError
from postroomd.runtime.doctor.processes import (
    check_backlog,
    check_certificates,
    check_clock,
    check_gateway,
    check_service,
    check_worker,
    database_error,
)
from postroomd.runtime.errors import FatalError, operator_message
from postroomd.runtime.processes import require_database
from postroomd.settings import Settings
from postroomd.storage.migrations import HEAD, require_current
from postroomd.storage.opening import open_repository


async def examine(settings: Settings) -> list[Finding]:
    """Return the findings: on the database first, then on the processes and certificates."""
    now = datetime.now(UTC)
    database, service, gateway = await asyncio.gather(
        _examine_database(settings, now), check_service(settings), asyncio.to_thread(check_gateway, settings)
    )
    return [*database, service, gateway, *await asyncio.to_thread(lambda: [*check_certificates(settings, now)])]


async def _examine_database(settings: Settings, now: datetime) -> list[Finding]:
    url = settings.database_url.get_secret_value()
    try:
        require_database(settings)
        await asyncio.to_thread(require_current, url)
        repository = await open_repository(url)
    except (PostroomError, FatalError, OSError) as error:
        return [*database_error(operator_message(error) or type(error).__name__)]
    try:
        findings = [Finding(check="database", condition=Condition.OK, detail=f"reachable, at schema {HEAD}")]
        findings += await repository.diagnose()
        records = await repository.clocks.read()
        findings.append(check_clock(settings, Clock().read(), records))
        findings.append(check_worker(records, now))
        findings.append(check_backlog(await repository.work.next_due(), now))
    except PostroomError as error:
        return [*database_error(operator_message(error) or type(error).__name__)]
    finally:
        await repository.close()
    return findings
