"""What is wrong with a database and with the work in it, for `postroom doctor`. Changes nothing."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.diagnosis import Condition, Finding, faulty_domains
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, RecordLevel, RecordStatus
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.drivers import driver_of
from postroomd.storage.mail_views import MAIL_VIEWS, diagnose_views
from postroomd.storage.sql.domains import DOMAIN, fetch_records
from postroomd.storage.sql.rows import from_row


async def diagnose(database: Database, *, with_records: bool) -> Sequence[Finding]:
    """Return the findings on the engine, the isolation of tenants, the mail servers' views, and domains.

    `with_records` includes the worker's findings on the records of each domain. Raises StorageUnavailable.
    """

    async def transaction(connection: AsyncConnection) -> list[Finding]:
        driver = driver_of(connection)
        faults = await connection.run_sync(driver.faults, t.TENANT_TABLE_NAMES, t.SEARCHED_NAMES)
        return [
            *await connection.run_sync(driver.diagnose),
            _isolation(faults),
            await connection.run_sync(diagnose_views),
            *await connection.run_sync(driver.diagnose_readers, [*MAIL_VIEWS]),
            *await _domains(connection),
            *(await _records(connection) if with_records else ()),
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
    """Return a finding on the number of domains, and one on those that have lost their name."""
    domains = t.domains.c
    counting = select(domains.status, func.count().label("total")).group_by(domains.status)
    counts: dict[DomainStatus, int] = {row.status: row.total for row in await connection.execute(counting)}
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
    return findings


async def _records(connection: AsyncConnection) -> list[Finding]:
    """Return a finding on the age of the worker's lookups, and those on the records of ready domains."""
    domains, records = t.domains.c, t.domain_records.c
    of_ready = domains.status == DomainStatus.READY
    ages = select(func.count(), func.count(domains.looked_up_at), func.min(domains.looked_up_at, type_=t.Instant))
    ready, looked_up, oldest = (await connection.execute(ages.where(of_ready))).one()
    detail = f"the worker has looked up {looked_up} of {ready} ready domains"
    if oldest is not None:
        detail += f", each since {oldest:%Y-%m-%d %H:%M}Z"
    faulty = (
        select(domains.name, records.kind, records.status)
        .join(t.domain_records, records.domain_id == domains.id)
        .where(
            of_ready,
            records.level == RecordLevel.REQUIRED,
            records.status.in_((RecordStatus.INVALID, RecordStatus.NOT_FOUND)),
        )
        .order_by(domains.name, records.kind)
    )
    by_name: dict[str, list[str]] = {}
    for row in await connection.execute(faulty):
        by_name.setdefault(row.name, []).append(f"{row.kind} is {row.status.value}")
    lookups = Finding(check="dns lookups", condition=Condition.OK, detail=f"{detail}; --look-up does it now")
    return [lookups, *faulty_domains(by_name)]


async def ready_domains(
    database: Database, after: str, limit: int
) -> Sequence[tuple[Domain, Mapping[str, DomainRecord]]]:
    """Return up to `limit` ready domains of any tenant with their records, after an id, "" for the first ones."""

    async def transaction(connection: AsyncConnection) -> list[tuple[Domain, Mapping[str, DomainRecord]]]:
        query = select(*DOMAIN).where(t.domains.c.status == DomainStatus.READY).order_by(t.domains.c.id).limit(limit)
        if after:
            query = query.where(t.domains.c.id > after)
        domains = [from_row(Domain, row) for row in await connection.execute(query)]
        return [(domain, await fetch_records(connection, domain)) for domain in domains]

    return await database.read(transaction)
