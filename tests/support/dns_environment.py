"""A repository and a worker whose prober asks the test's DNS servers, and domains of several organizations."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import uuid4

from postroomd.dns import DnsProber
from postroomd.domain.context import CallContext
from postroomd.domain.domains import begin_validation
from postroomd.domain.model import DomainRecord, DomainStatus, RecordStatus
from postroomd.domain.tenancy import Organization, Project
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.steps import Worker
from tests.support.dns_records import NAME, NOW, dns_config, make_domain, records_of
from tests.support.dns_server import Internet
from tests.support.factories import tenant_context
from tests.support.lifecycle import FREE
from tests.support.worker import drain


class Environment:
    """A repository, and a worker whose prober asks the test's DNS servers."""

    def __init__(self, repository: Repository, internet: Internet) -> None:
        self.repository = repository
        self.internet = internet
        prober = DnsProber(dns_config(internet))
        self.worker = Worker(work=repository.work, prober=prober, policy=FREE)
        self.now = NOW

    async def register(self, token: str, name: str = NAME) -> "Registered":
        """A domain of a new organization."""
        organization = Organization(id=str(uuid4()), created_at=NOW)
        project = Project(
            id=str(uuid4()),
            organization_id=organization.id,
            name="a project",
            mailbox_quota=10,
            mailbox_count=0,
            created_at=NOW,
        )
        await self.repository.tenancy.create_organization(organization, project)
        domain = replace(
            make_domain(name, DomainStatus.WAITING_VALIDATION), organization_id=organization.id, project_id=project.id
        )
        records = records_of(domain, token)
        context = tenant_context(organization_id=organization.id)
        secrets = DomainSecrets(token, "post", "a private key")
        await self.repository.domains.create(context, domain, list(records.values()), secrets)
        return Registered(self, domain.id, context, records)

    async def run_worker(self, later: timedelta = timedelta(minutes=1)) -> None:
        """Run the worker later, by default in a minute."""
        self.now += later
        await drain(self.worker, self.now)


class Registered:
    """A domain, and what its organization sees of it."""

    def __init__(
        self, environment: Environment, domain_id: str, context: CallContext, records: dict[str, DomainRecord]
    ) -> None:
        self._environment = environment
        self.domain_id = domain_id
        self.context = context
        self.records = records

    async def request_validation(self) -> DomainStatus:
        rule = partial(begin_validation, now=self._environment.now)
        domains = self._environment.repository.domains
        return (await domains.begin_validation(self.context, self.domain_id, rule, self._environment.now)).status

    async def status(self) -> DomainStatus:
        return (await self._environment.repository.domains.get(self.context, self.domain_id)).status

    async def results(self) -> dict[str, tuple[RecordStatus, str | None]]:
        records = await self._environment.repository.domains.records(self.context, self.domain_id)
        return {kind: (record.status, record.error) for kind, record in records.items()}
