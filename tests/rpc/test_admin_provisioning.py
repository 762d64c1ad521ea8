"""What the mail platform is asked for, and what it answers."""

from collections.abc import Mapping

import pytest
import pytest_asyncio

from postroom.admin.v1alpha1 import mailbox_pb2, provision_pb2
from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from tests.rpc.operators import ADMIN_FLAGS, Operator, operator
from tests.rpc.support import Service, Tenant, failure_of
from tests.rpc.test_admin_billing import require_precondition

pytestmark = pytest.mark.asyncio(loop_scope="module")

Kind = provision_pb2.Provision


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    return ADMIN_FLAGS | {"provisioning": "manual"}


@pytest_asyncio.fixture(loop_scope="module")
async def admin(service: Service) -> Operator:
    return await operator(service)


@pytest_asyncio.fixture(loop_scope="module")
async def domain(tenant: Tenant, admin: Operator) -> domain_pb2.Domain:
    """A domain that is ready, which the mail platform has made."""
    domain = await tenant.domain()
    assert domain.status == domain_pb2.Domain.CREATING
    await confirm(admin, await provision_for(admin, domain.name))
    await tenant.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id))
    return await tenant.wait_for_domain(domain.id, domain_pb2.Domain.READY)


async def provision_for(admin: Operator, address: str) -> provision_pb2.Provision:
    """The one thing to be done for an address, or a domain."""
    (provision,) = (provision for provision in await admin.provisions() if provision.address == address)
    return provision


async def confirm(admin: Operator, provision: provision_pb2.Provision) -> provision_pb2.Provision:
    return await admin.stub.ConfirmProvision(provision_pb2.ConfirmProvisionRequest(provision_id=provision.id))


async def fail(admin: Operator, provision: provision_pb2.Provision, reason: str) -> provision_pb2.Provision:
    request = provision_pb2.FailProvisionRequest(provision_id=provision.id, reason=reason)
    return await admin.stub.FailProvision(request)


async def test_a_provision_says_what_is_to_be_done_to_what(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "ann")
    provision = await provision_for(admin, mailbox.email)
    assert (provision.kind, provision.status) == (Kind.CREATE, Kind.PENDING)
    assert (provision.mailbox_id, provision.alias_id, provision.domain_id) == (mailbox.id, "", domain.id)
    assert (provision.organization_id, provision.project_id) == (tenant.organization_id, tenant.project_id)
    assert (provision.attempts, provision.error) == (0, "")
    assert provision.next_attempt_at == provision.requested_at
    found = (await admin.found(mailbox.id)).mailbox
    assert found.provision_standing == mailbox_pb2.Mailbox.CREATE_AWAITED
    await confirm(admin, provision)

    alias = await tenant.alias(mailbox, "info")
    of_alias = await provision_for(admin, alias.email)
    assert (of_alias.kind, of_alias.mailbox_id, of_alias.alias_id) == (Kind.CREATE, mailbox.id, alias.id)
    await confirm(admin, of_alias)


async def test_a_failure_is_kept_and_puts_the_work_off(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "bob")
    provision = await provision_for(admin, mailbox.email)
    failed = await fail(admin, provision, "disk full")
    assert (failed.status, failed.attempts, failed.error) == (Kind.PENDING, 1, "disk full")
    assert failed.next_attempt_at.ToDatetime() > provision.next_attempt_at.ToDatetime()
    assert await fail(admin, provision, "disk full") == failed
    assert [listed for listed in await admin.provisions() if listed.id == provision.id] == []
    assert (await admin.found(mailbox.id)).mailbox.mailbox.status == tenant_pb2.Mailbox.CREATING
    assert (await confirm(admin, provision)).status == Kind.CONFIRMED


async def test_a_provision_is_confirmed_once_and_stays_so(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "carol")
    provision = await provision_for(admin, mailbox.email)
    confirmed = await confirm(admin, provision)
    assert (confirmed.id, confirmed.status, confirmed.address) == (provision.id, Kind.CONFIRMED, mailbox.email)
    assert confirmed.HasField("settled_at")
    assert await confirm(admin, provision) == confirmed
    require_precondition(await failure_of(fail(admin, provision, "too late")), f"provision/{provision.id}")
    found = (await admin.found(mailbox.id)).mailbox
    assert found.mailbox.status == tenant_pb2.Mailbox.READY
    assert found.provision_standing == mailbox_pb2.Mailbox.PROVIDED


async def test_a_deletion_under_way_does_not_take_back_what_the_platform_was_asked_for(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "dave")
    await confirm(admin, await provision_for(admin, mailbox.email))
    await tenant.stub.DeleteMailbox(tenant_pb2.DeleteMailboxRequest(mailbox_id=mailbox.id))
    restored = await tenant.stub.RestoreMailbox(tenant_pb2.RestoreMailboxRequest(mailbox_id=mailbox.id))
    assert restored.status == tenant_pb2.Mailbox.RESTORING
    provision = await provision_for(admin, mailbox.email)
    assert provision.kind == Kind.RESTORE
    await tenant.stub.DeleteMailbox(tenant_pb2.DeleteMailboxRequest(mailbox_id=mailbox.id))
    assert (await confirm(admin, provision)).status == Kind.CONFIRMED
    found = (await admin.found(mailbox.id)).mailbox
    assert found.mailbox.status == tenant_pb2.Mailbox.DELETION_SCHEDULED
    assert found.provision_standing == mailbox_pb2.Mailbox.PROVIDED


async def test_provisions_are_listed_page_by_page(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    mailboxes = await tenant.mailboxes(domain, *(f"m{number}" for number in range(5)))
    everything = await admin.provisions()
    assert {mailbox.id for mailbox in mailboxes} <= {provision.mailbox_id for provision in everything}
    listed: list[provision_pb2.Provision] = []
    token = ""
    while True:
        request = provision_pb2.ListPendingProvisionsRequest(page_size=2, page_token=token)
        page = await admin.stub.ListPendingProvisions(request)
        listed += page.provisions
        token = page.next_page_token
        if not token:
            break
    assert listed == everything
