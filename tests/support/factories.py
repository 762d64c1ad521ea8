"""Tenants and what is theirs, made through the repository under test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import uuid4

from postroomd.domain import domains as rules
from postroomd.domain.addresses import Address
from postroomd.domain.context import CallContext
from postroomd.domain.mailboxes import new_mailbox
from postroomd.domain.model import (
    Alias,
    AliasStatus,
    Domain,
    DomainRecord,
    DomainStatus,
    Mailbox,
    MailboxStatus,
    SubscriptionPeriod,
)
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.records import MailHosts
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, Project, Scope
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.repository import Repository
from tests.support.lifecycle import FIELDS, FREE, PLATFORM

NOW = datetime(2024, 1, 31, 12, 30, 15, 123_456, tzinfo=UTC)
SECRETS = DomainSecrets("a validation token", "post", "a private key")

HOSTS = MailHosts(
    mx="mx.host.test",
    imap="imap.host.test",
    pop3="pop3.host.test",
    submission="smtp.host.test",
    dav="dav.host.test",
    autoconfig="autoconfig.host.test",
    autodiscover="autodiscover.host.test",
    spf_include="_spf.host.test",
    dmarc_policy="none",
)


OPERATOR = CallContext(actor="admin:test")


def tenant_context(*, organization_id: str, project_id: str | None = None, **fields: Any) -> CallContext:
    """The context of a call that reaches an organization, or one project of it."""
    scope = Scope(organization_id=organization_id, project_id=project_id)
    return CallContext(**{"actor": "key:TEST", "tenant": scope, **fields})


def new_id() -> str:
    return str(uuid4())


@dataclass(frozen=True)
class Tenant:
    """An organization with one of its projects."""

    organization: Organization
    project: Project

    @property
    def context(self) -> CallContext:
        """Calls that reach the whole organization."""
        return tenant_context(organization_id=self.organization.id)

    @property
    def project_context(self) -> CallContext:
        """Calls that reach the one project."""
        return tenant_context(organization_id=self.organization.id, project_id=self.project.id)


def project(organization_id: str, *, quota: int = 1_000, now: datetime = NOW) -> Project:
    return Project(
        id=new_id(),
        organization_id=organization_id,
        name="a project",
        mailbox_quota=quota,
        mailbox_count=0,
        created_at=now,
    )


async def new_tenant(repository: Repository, *, quota: int = 1_000) -> Tenant:
    organization = Organization(id=new_id(), created_at=NOW)
    tenant = Tenant(organization, project(organization.id, quota=quota))
    await repository.tenancy.create_organization(organization, tenant.project)
    return tenant


async def new_neighbor(repository: Repository, tenant: Tenant) -> Tenant:
    """Another project of the same organization."""
    neighbor = project(tenant.organization.id)
    await repository.tenancy.create_project(neighbor)
    return Tenant(tenant.organization, neighbor)


def api_key(tenant: Tenant, *, limited: bool = False, now: datetime = NOW) -> ApiKey:
    return ApiKey(
        access_key=f"SCW{new_id().replace('-', '').upper()[:17]}",
        organization_id=tenant.organization.id,
        project_id=tenant.project.id if limited else None,
        default_project_id=tenant.project.id,
        read_only=limited,
        created_at=now,
        expires_at=None,
        revoked_at=None,
    )


def admin_key(name: str, hours: float = 0) -> AdminKey:
    created_at = NOW + timedelta(hours=hours)
    return AdminKey(name=name, read_only=False, created_at=created_at, expires_at=None, revoked_at=None)


def digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def domain(
    tenant: Tenant,
    name: str = "example.com",
    status: DomainStatus = DomainStatus.WAITING_VALIDATION,
    *,
    now: datetime = NOW,
) -> Domain:
    return Domain(
        id=new_id(),
        organization_id=tenant.organization.id,
        project_id=tenant.project.id,
        name=name,
        status=status,
        mailbox_total_count=0,
        created_at=now,
        updated_at=now,
    )


def creating_domain(tenant: Tenant, name: str = "example.com") -> Domain:
    """A new domain that the mail platform has to create."""
    return rules.new_domain(
        domain_id=new_id(),
        organization_id=tenant.organization.id,
        project_id=tenant.project.id,
        name=name,
        policy=PLATFORM,
        now=NOW,
    )


def records(of: Domain) -> list[DomainRecord]:
    return rules.new_records(of, HOSTS, token="T0KEN", dkim_selector="post", dkim_key="S0VZ", new_id=new_id)


async def new_domain(
    repository: Repository,
    tenant: Tenant,
    name: str = "example.com",
    status: DomainStatus = DomainStatus.READY,
    *,
    now: datetime = NOW,
    **fields: Any,
) -> Domain:
    """A stored domain; `fields` are those of the call's context."""
    made = domain(tenant, name, status, now=now)
    return await repository.domains.create(replace(tenant.context, **fields), made, records(made), SECRETS)


def mailbox(
    local_part: str,
    *,
    status: MailboxStatus | None = None,
    period: SubscriptionPeriod = SubscriptionPeriod.MONTHLY,
    policy: LifecyclePolicy = FREE,
    now: datetime = NOW,
    change: Callable[[Mailbox], Mailbox] | None = None,
) -> NewMailbox:
    """A mailbox to create, with what is to differ from a new one. Its password hash is the local part in brackets."""
    mailbox_id = new_id()

    def make(within: Domain) -> Mailbox:
        made = new_mailbox(within, mailbox_id=mailbox_id, local_part=local_part, period=period, policy=policy, now=now)
        made = made if status is None else replace(made, status=status, **FIELDS[status])
        return change(made) if change else made

    return NewMailbox(make, f"<{local_part}>")


async def new_mailboxes(repository: Repository, within: Domain, *local_parts: str, **fields: Any) -> Sequence[Mailbox]:
    """Stored mailboxes; `fields` are those of the call's context."""
    context = tenant_context(organization_id=within.organization_id, **fields)
    return await repository.mailboxes.create(context, within.id, [mailbox(name) for name in local_parts])


async def new_one(repository: Repository, within: Domain, new: NewMailbox) -> Mailbox:
    """The one mailbox of a batch of one."""
    (created,) = await repository.mailboxes.create(
        tenant_context(organization_id=within.organization_id), within.id, [new]
    )
    return created


def alias(of: Mailbox, *, local_part: str, now: datetime = NOW, alias_id: str | None = None) -> Alias:
    return Alias(
        id=alias_id or new_id(),
        organization_id=of.organization_id,
        project_id=of.project_id,
        domain_id=of.domain_id,
        mailbox_id=of.id,
        email=str(Address(local_part, of.address.domain_name)),
        description=f"also {local_part}",
        status=AliasStatus.READY,
        created_at=now,
        updated_at=now,
    )


async def new_alias(repository: Repository, of: Mailbox, local_part: str, *, now: datetime = NOW) -> Alias:
    context = tenant_context(organization_id=of.organization_id)
    make = partial(alias, local_part=local_part, now=now, alias_id=new_id())
    return await repository.aliases.create(context, of.id, make)
