"""Contract of the diagnosis of a database and the domains in it."""

from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.diagnosis import Condition
from postroomd.domain.model import Domain, DomainStatus, RecordStatus
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import dump
from tests.support.factories import NOW, Tenant, new_domain


class DiagnosisContract:
    """The contract of `Repository.diagnose`."""

    async def test_an_intact_database_is_well(self, repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
        await new_domain(repository, tenant)
        await new_domain(repository, tenant, "waiting.example", DomainStatus.WAITING_VALIDATION)
        before = await dump(raw)
        findings = await repository.diagnose()
        assert {finding.condition for finding in findings} == {Condition.OK}
        (domains,) = [finding for finding in findings if finding.check == "domains"]
        assert domains.detail == "1 ready, 1 waiting_validation"
        assert await dump(raw) == before

    async def test_ready_domains_are_listed_with_their_records(self, repository: Repository, tenant: Tenant) -> None:
        names = [f"domain-{each}.example" for each in range(3)]
        created = [await new_domain(repository, tenant, name) for name in names]
        await new_domain(repository, tenant, "waiting.example", DomainStatus.WAITING_VALIDATION)
        found: list[Domain] = []
        while page := await repository.ready_domains(found[-1].id if found else "", 2):
            found += [domain for domain, _ in page]
            assert all({record.domain_id for record in records.values()} == {domain.id} for domain, records in page)
        assert found == sorted(created, key=lambda domain: domain.id)
        assert "dns lookups" not in {finding.check for finding in await repository.diagnose(with_records=False)}

    async def test_faulty_records_of_ready_domains_and_lost_names_are_named(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ready = await new_domain(repository, tenant)
        lost = await new_domain(repository, tenant, "lost.example", DomainStatus.WAITING_VALIDATION)
        async with raw.begin() as connection:
            columns = t.domain_records.c
            for kind, status in (("mx", RecordStatus.INVALID), ("caldav", RecordStatus.NOT_FOUND)):
                matching = (columns.domain_id == ready.id, columns.kind == kind)
                await connection.execute(update(t.domain_records).where(*matching).values(status=status))
            releasing = update(t.domains).where(t.domains.c.id == lost.id)
            await connection.execute(releasing.values(released_at=NOW + timedelta(days=3)))
        faulty = {each.check: each for each in await repository.diagnose() if each.condition is not Condition.OK}
        assert faulty.keys() == {"domains released", "dns of example.com"}
        assert faulty["dns of example.com"].detail == "mx is invalid"  # caldav is optional
        assert all(finding.remedy for finding in faulty.values())
