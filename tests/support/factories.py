"""Tenants and their resources.

`new_*` functions store what they return through the repository under test; the others only build it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import uuid4

from postroomd.domain import domains as domain_rules
from postroomd.domain import mailboxes as mailbox_rules
from postroomd.domain.addresses import Address
from postroomd.domain.audit import AuditedCall
from postroomd.domain.context import CallContext
from postroomd.domain.dkim import DkimKeys, NewDkimKey, next_record, rotate_key
from postroomd.domain.model import (
    Alias,
    AliasStatus,
    Domain,
    DomainRecord,
    DomainStatus,
    Forwarding,
    ForwardingStatus,
    Mailbox,
    MailboxStatus,
    SubscriptionPeriod,
)
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.tenancy import AdminKey, ApiKey, Organization, Project, Scope
from postroomd.storage.protocols.domains import DomainSecrets
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.repository import Repository
from tests.support.lifecycle import FIELDS, FREE, PLATFORM
from tests.support.mail_hosts import MAIL_HOSTS

NOW = datetime(2024, 1, 31, 12, 30, 15, 123_456, tzinfo=UTC)
SECRETS = DomainSecrets("a validation token", "post", "a private key")

AUDITED = AuditedCall(action="Test", at=NOW, request_id="r-1", client_address="192.0.2.1", arguments=("a", "b"))
"""The call of every context: each change of a test is recorded in the audit log."""

OPERATOR = CallContext(actor="admin:test", audit=AUDITED)


def tenant_context(*, organization_id: str, project_id: str | None = None, **fields: Any) -> CallContext:
    """Return the context of a call with the scope of an organization, or of one of its projects."""
    scope = Scope(organization_id=organization_id, project_id=project_id)
    return CallContext(**{"actor": "key:TEST", "tenant": scope, "audit": AUDITED, **fields})


def new_id() -> str:
    return str(uuid4())


@dataclass(frozen=True)
class Tenant:
    """An organization with one of its projects."""

    organization: Organization
    project: Project

    @property
    def context(self) -> CallContext:
        """A call context with the scope of the organization."""
        return tenant_context(organization_id=self.organization.id)

    @property
    def project_context(self) -> CallContext:
        """A call context with the scope of the project."""
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
    """Create another project of the same organization."""
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
    return domain_rules.new_domain(
        domain_id=new_id(),
        organization_id=tenant.organization.id,
        project_id=tenant.project.id,
        name=name,
        policy=PLATFORM,
        now=NOW,
    )


def records(parent: Domain) -> list[DomainRecord]:
    return domain_rules.new_records(
        parent, MAIL_HOSTS, token="T0KEN", dkim_selector="post", dkim_key="S0VZ", new_id=new_id
    )


async def new_domain(
    repository: Repository,
    tenant: Tenant,
    name: str = "example.com",
    status: DomainStatus = DomainStatus.READY,
    *,
    now: datetime = NOW,
    **fields: Any,
) -> Domain:
    """Create a domain. `fields` replace those of the call context."""
    new = domain(tenant, name, status, now=now)
    return await repository.domains.create(replace(tenant.context, **fields), new, records(new), SECRETS)


def new_dkim_key(parent: Domain, selector: str = "new", *, now: datetime = NOW) -> NewDkimKey:
    """Return a key to rotate to. Its private key has its selector."""
    record = next_record(parent, selector, "TkVX", record_id=new_id(), now=now)
    return NewDkimKey(selector=selector, private_pem=f"the private key of {selector}", record=record)


async def rotate_dkim_key(
    repository: Repository,
    parent: Domain,
    selector: str = "new",
    *,
    immediately: bool = False,
    now: datetime = NOW,
    key: NewDkimKey | None = None,
) -> DkimKeys:
    """Rotate the DKIM key of a domain, or continue its rotation. The previous key is kept for FREE.dkim_overlap."""
    new_key = key or new_dkim_key(parent, selector, now=now)
    rule = partial(
        rotate_key, new_key=new_key, selector="", immediately=immediately, overlap=FREE.dkim_overlap, now=now
    )
    return await repository.dkim_rotations.rotate(OPERATOR, parent.id, rule, now)


def mailbox(
    local_part: str,
    *,
    status: MailboxStatus | None = None,
    period: SubscriptionPeriod = SubscriptionPeriod.MONTHLY,
    policy: LifecyclePolicy = FREE,
    now: datetime = NOW,
    change: Callable[[Mailbox], Mailbox] | None = None,
) -> NewMailbox:
    """Return a mailbox to create. Its password hash is the local part in angle brackets."""
    mailbox_id = new_id()

    def build(parent: Domain) -> Mailbox:
        new = mailbox_rules.new_mailbox(
            parent, mailbox_id=mailbox_id, local_part=local_part, period=period, policy=policy, now=now
        )
        if status is not None:
            new = replace(new, status=status, **FIELDS[status])
        return change(new) if change else new

    return NewMailbox(build, f"<{local_part}>")


async def new_mailboxes(repository: Repository, parent: Domain, *local_parts: str, **fields: Any) -> Sequence[Mailbox]:
    """Create mailboxes. `fields` replace those of the call context."""
    context = tenant_context(organization_id=parent.organization_id, **fields)
    return await repository.mailboxes.create(context, parent.id, [mailbox(name) for name in local_parts])


async def new_mailbox(repository: Repository, parent: Domain, new: NewMailbox) -> Mailbox:
    """Create one mailbox."""
    context = tenant_context(organization_id=parent.organization_id)
    (created,) = await repository.mailboxes.create(context, parent.id, [new])
    return created


def alias(parent: Mailbox, *, local_part: str, now: datetime = NOW, alias_id: str | None = None) -> Alias:
    return Alias(
        id=alias_id or new_id(),
        organization_id=parent.organization_id,
        project_id=parent.project_id,
        domain_id=parent.domain_id,
        mailbox_id=parent.id,
        email=str(Address(local_part, parent.address.domain_name)),
        description=f"also {local_part}",
        status=AliasStatus.READY,
        created_at=now,
        updated_at=now,
    )


async def new_alias(repository: Repository, parent: Mailbox, local_part: str, *, now: datetime = NOW) -> Alias:
    context = tenant_context(organization_id=parent.organization_id)
    build = partial(alias, local_part=local_part, now=now, alias_id=new_id())
    return await repository.aliases.create(context, parent.id, build)


def forwarding(
    parent: Mailbox, *, email: str, now: datetime = NOW, forwarding_id: str | None = None, **fields: Any
) -> Forwarding:
    built = Forwarding(
        id=forwarding_id or new_id(),
        organization_id=parent.organization_id,
        project_id=parent.project_id,
        domain_id=parent.domain_id,
        mailbox_id=parent.id,
        email=email,
        status=ForwardingStatus.READY,
        created_at=now,
        updated_at=now,
    )
    return replace(built, **fields)


async def new_forwarding(
    repository: Repository, parent: Mailbox, email: str, *, now: datetime = NOW, **fields: Any
) -> Forwarding:
    context = tenant_context(organization_id=parent.organization_id)
    built = forwarding(parent, email=email, now=now, **fields)
    return await repository.forwardings.create(context, parent.id, email, lambda _: built)
