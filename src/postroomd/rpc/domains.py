"""The RPCs about domains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from secrets import token_hex
from uuid import uuid4

from postroom.v1alpha1 import domain_pb2 as pb
from postroomd.domain.context import CallContext
from postroomd.domain.domain_names import search_text
from postroomd.domain.domains import (
    MIN_VALIDATION_INTERVAL,
    begin_validation,
    delete_domain,
    new_domain,
    new_records,
)
from postroomd.domain.model import Domain, DomainRecord
from postroomd.domain.policy import LifecyclePolicy, Quotas
from postroomd.domain.queries import DomainQuery
from postroomd.domain.records import MailHosts, plan_records
from postroomd.domain.reserved_names import ReservedNames
from postroomd.domain.validation import MAX_SEARCH, check_domain_name, check_id, check_record_names, checking
from postroomd.rpc import convert, page_tokens
from postroomd.rpc.cpu_pool import CpuPool
from postroomd.rpc.dkim import generate_dkim_key
from postroomd.rpc.list_limits import ListLimits
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.domains import Domains, DomainSecrets
from postroomd.storage.protocols.tenancy import Tenancy

MAX_PAGE_SIZE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainServicer:
    """The RPCs about domains."""

    domains: Domains
    tenancy: Tenancy
    pool: CpuPool
    hosts: MailHosts
    reserved: ReservedNames
    urls: convert.ServiceUrls
    dkim_selector: str
    dkim_bits: int
    limits: ListLimits
    policy: LifecyclePolicy
    quotas: Quotas
    clock: Callable[[], datetime]
    min_validation_interval: timedelta = MIN_VALIDATION_INTERVAL

    async def CreateDomain(self, request: pb.CreateDomainRequest, context: CallContext) -> Domain:
        """Register a domain, and generate its DNS records."""
        with checking() as check:
            name = check_domain_name(check, request.name, self.reserved)
            if name:
                plans = plan_records(name, self.hosts, token="", dkim_selector=self.dkim_selector, dkim_key="")
                check_record_names(check, plans)
            project_id = check.optional_uuid("project_id", request.project_id) or context.default_project_id
        # Checked before the key pair is generated, which costs far more.
        await self.tenancy.get_project(context, project_id)
        await self.domains.require_quota(context, self.quotas)
        (key,) = await self.pool.run(context.scope.organization_id, [partial(generate_dkim_key, self.dkim_bits)])
        token = token_hex(16)
        domain = new_domain(
            domain_id=_new_id(),
            organization_id=context.scope.organization_id,
            project_id=project_id,
            name=name,
            policy=self.policy,
            now=self.clock(),
        )
        records = new_records(
            domain,
            self.hosts,
            token=token,
            dkim_selector=self.dkim_selector,
            dkim_key=key.public_base64,
            new_id=_new_id,
        )
        secrets = DomainSecrets(token, self.dkim_selector, key.private_pem)
        return await self.domains.create(context, domain, records, secrets, self.quotas)

    async def ListDomains(self, request: pb.ListDomainsRequest, context: CallContext) -> bytes:
        """List domains. Returns the serialized response."""
        with checking() as check:
            page, page_size = check.page(request.page, request.page_size, MAX_PAGE_SIZE)
            query = DomainQuery(
                ordering=convert.ordering(check, request.order_by, convert.DOMAIN_ORDERINGS),
                page=page,
                page_size=page_size,
                project_id=check.optional_uuid("project_id", request.project_id),
                statuses=convert.distinct_members(check, "statuses", request.statuses, convert.DOMAIN_STATUSES),
                search=search_text(check.text("search", request.search, MAX_SEARCH)),
            )
            query = page_tokens.with_page_token(check, request, context.scope, query)
        return await self.limits.page(context, query, query.search, self.domains.list, self._list_response)

    async def GetDomain(self, request: pb.GetDomainRequest, context: CallContext) -> Domain:
        """Return a domain."""
        domain_id = check_id("domain_id", request.domain_id)
        return await self.domains.get(context, domain_id)

    async def DeleteDomain(self, request: pb.DeleteDomainRequest, context: CallContext) -> Domain:
        """Delete a domain; with `force`, also one that has mailboxes in use."""
        domain_id = check_id("domain_id", request.domain_id)
        now = self.clock()
        force = request.force or self.policy.cascade_domain_deletion
        delete = partial(delete_domain, force=force, now=now)
        rule = convert.require_etag(request.etag, self._etag, "domain", delete)
        return await self.domains.delete(context, domain_id, rule, now)

    async def GetDomainRecords(
        self, request: pb.GetDomainRecordsRequest, context: CallContext
    ) -> Mapping[str, DomainRecord]:
        """Return the DNS records of a domain by kind."""
        domain_id = check_id("domain_id", request.domain_id)
        return await self.domains.records(context, domain_id)

    async def ValidateDomainRecords(self, request: pb.ValidateDomainRecordsRequest, context: CallContext) -> Domain:
        """Schedule the validation of a domain's records: the worker looks them up."""
        domain_id = check_id("domain_id", request.domain_id)
        now = self.clock()
        return await self.domains.begin_validation(
            context, domain_id, lambda domain: begin_validation(domain, now), now, self.min_validation_interval
        )

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "CreateDomain": Rpc(self.CreateDomain, self._message),
            "ListDomains": Rpc(self.ListDomains),
            "GetDomain": Rpc(self.GetDomain, self._message),
            "DeleteDomain": Rpc(self.DeleteDomain, self._message, self.GetDomain),
            "GetDomainRecords": Rpc(self.GetDomainRecords, convert.records_message),
            "ValidateDomainRecords": Rpc(
                self.ValidateDomainRecords, lambda _domain: pb.ValidateDomainRecordsResponse()
            ),
        }

    def _message(self, domain: Domain) -> pb.Domain:
        return convert.domain_message(domain, self.urls)

    def _list_response(self, result: page_tokens.ListResult[Domain]) -> pb.ListDomainsResponse:
        return pb.ListDomainsResponse(
            total_count=result.page.total_count,
            domains=map(self._message, result.page.items),
            next_page_token=result.next_page_token,
        )

    def _etag(self, domain: Domain) -> str:
        return convert.domain_etag(domain, self.urls)


def _new_id() -> str:
    return str(uuid4())
