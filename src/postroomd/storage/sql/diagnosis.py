"""What is wrong with a database and with the work in it, for `postroom doctor`. Changes nothing."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.model import DomainStatus, RecordLevel, RecordStatus
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_of

MAX_NAMED = 20  # domains with a faulty record


async def diagnose(database: Database) -> Sequence[Finding]:
    """Return the findings on the engine, the isolation of tenants, and domains. Raises StorageUnavailable."""

    async def transaction(connection: AsyncConnection) -> list[Finding]:
        driver = driver_of(connection)
        faults = await connection.run_sync(driver.faults, t.TENANT_TABLE_NAMES, t.SEARCHED_NAMES)
        return [
            *await connection.run_sync(driver.diagnose),
            _isolation(faults),
            *await _domains(connection),
        ]

    return await database.read(transaction)


def _isolation(faults: Sequence[str]) -> Finding:
    if not faults:
        return Finding(check="isolation", condition=Condition.OK, detail="roles, grants and policies are complete")
    return Finding(
        check="isolation",
        condition=Condition.ERROR,
        detail="; ".join(faults),
        remedy="run `postroom migrate` as the owner of the tables",
    )


async def _domains(connection: AsyncConnection) -> list[Finding]:
    """Return one finding on all domains, and one for each ready domain whose required records are no longer valid."""
    domains, records = t.domains.c, t.domain_records.c
    counting = select(domains.status, func.count().label("total")).group_by(domains.status)
    counts: dict[DomainStatus, int] = {row.status: row.total for row in await connection.execute(counting)}
    faulty = (
        select(domains.name, records.kind, records.status)
        .join(t.domain_records, records.domain_id == domains.id)
        .where(
            domains.status == DomainStatus.READY,
            records.level == RecordLevel.REQUIRED,
            records.status.in_((RecordStatus.INVALID, RecordStatus.NOT_FOUND)),
        )
        .order_by(domains.name, records.kind)
    )
    by_name: dict[str, list[str]] = {}
    for row in await connection.execute(faulty):
        by_name.setdefault(row.name, []).append(f"{row.kind} is {row.status.value}")
    released = select(func.count()).where(domains.released_at.is_not(None), domains.status != DomainStatus.READY)
    lost = int((await connection.execute(released)).scalar_one())
    detail = ", ".join(f"{count} {status.value}" for status, count in sorted(counts.items())) or "none"
    findings = [Finding(check="domains", condition=Condition.OK, detail=detail)]
    if lost:
        findings.append(
            Finding(
                check="domains released",
                condition=Condition.WARNING,
                detail=f"{lost} have lost their name",
                remedy="their owners restore the validation token; `postroom history NAME` has the time",
            )
        )
    findings += [
        Finding(
            check=f"dns of {name}",
            condition=Condition.WARNING,
            detail=", ".join(by_name[name]),
            remedy="correct the record: `postroom domains show` has its value and the fault",
        )
        for name in list(by_name)[:MAX_NAMED]
    ]
    if len(by_name) > MAX_NAMED:
        findings.append(
            Finding(
                check="dns",
                condition=Condition.WARNING,
                detail=f"{len(by_name) - MAX_NAMED} more domains have faulty required records",
                remedy="correct those that are named first",
            )
        )
    return findings
