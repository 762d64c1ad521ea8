"""The admin service: provisions, confirmed or failed by the mail platform."""

from collections.abc import Mapping

import pytest
import pytest_asyncio

from postroom.admin.v1alpha1 import domain_pb2 as admin_domain_pb2
from postroom.admin.v1alpha1 import mailbox_pb2, provision_pb2
from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from postroom.v1alpha1.forwarding_pb2 import Forwarding
from tests.rpc.admin_client import ADMIN_OVERRIDES, Operator, new_operator
from tests.rpc.client import Tenant
from tests.rpc.failures import assert_precondition_failed, failure_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

Kind = provision_pb2.Provision


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return ADMIN_OVERRIDES | {"provisioning": "manual"}


@pytest_asyncio.fixture(loop_scope="module")
async def admin(service: Service) -> Operator:
    return await new_operator(service)


@pytest_asyncio.fixture(loop_scope="module")
async def domain(tenant: Tenant, admin: Operator) -> domain_pb2.Domain:
    """A ready domain, which the mail platform has created."""
    domain = await tenant.domain()
    assert domain.status == domain_pb2.Domain.CREATING
    await confirm(admin, await provision_for(admin, domain.name))
    await tenant.validate(domain)
    return await tenant.wait_for_domain(domain.id, domain_pb2.Domain.READY)


async def provision_for(admin: Operator, address: str) -> provision_pb2.Provision:
    """The provision that is due for an address or a domain name."""
    (provision,) = (provision for provision in await admin.provisions() if provision.address == address)
    return provision


async def confirm(admin: Operator, provision: provision_pb2.Provision) -> provision_pb2.Provision:
    return await admin.stub.ConfirmProvision(provision_pb2.ConfirmProvisionRequest(provision_id=provision.id))


async def fail(admin: Operator, provision: provision_pb2.Provision, reason: str) -> provision_pb2.Provision:
    request = provision_pb2.FailProvisionRequest(provision_id=provision.id, reason=reason)
    return await admin.stub.FailProvision(request)


async def test_a_provision_names_its_kind_and_resource(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "ann")
    provision = await provision_for(admin, mailbox.email)
    assert (provision.kind, provision.status) == (Kind.CREATE, Kind.PENDING)
    assert (provision.mailbox_id, provision.alias_id, provision.domain_id) == (mailbox.id, "", domain.id)
    assert (provision.organization_id, provision.project_id) == (tenant.organization_id, tenant.project_id)
    assert (provision.attempts, provision.error) == (0, "")
    assert provision.next_attempt_at == provision.requested_at
    found = await admin.get_mailbox(mailbox.id)
    assert found.provision_standing == mailbox_pb2.Mailbox.CREATE_AWAITED
    await confirm(admin, provision)

    alias = await tenant.alias(mailbox, "info")
    alias_provision = await provision_for(admin, alias.email)
    assert (alias_provision.kind, alias_provision.mailbox_id, alias_provision.alias_id) == (
        Kind.CREATE,
        mailbox.id,
        alias.id,
    )
    await confirm(admin, alias_provision)


async def test_a_provision_of_a_forwarding_says_what_it_should_be(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "erin")
    await confirm(admin, await provision_for(admin, mailbox.email))
    forwarding = await tenant.forwarding(mailbox, "Erin@elsewhere.example")
    assert forwarding.status == Forwarding.PROVISIONING
    provision = await provision_for(admin, mailbox.email)
    assert (provision.kind, provision.mailbox_id, provision.alias_id) == (Kind.CREATE, mailbox.id, "")
    assert (provision.forwarding_id, provision.forwarding_email) == (forwarding.id, "Erin@elsewhere.example")
    assert (provision.forwarding_keep_copy, provision.forwarding_enabled) == (True, True)

    await tenant.change_forwarding_settings(mailbox, keep_copy=False)
    assert_precondition_failed(await failure_of(confirm(admin, provision)), f"provision/{provision.id}")
    replaced = await provision_for(admin, mailbox.email)
    assert (replaced.kind, replaced.forwarding_keep_copy) == (Kind.CREATE, False)
    assert (await confirm(admin, replaced)).status == Kind.CONFIRMED
    assert (await tenant.get_forwarding(forwarding)).status == Forwarding.READY

    await tenant.change_forwarding_settings(mailbox, enabled=False)
    assert (await tenant.get_forwarding(forwarding)).status == Forwarding.UPDATING
    update = await provision_for(admin, mailbox.email)
    assert (update.kind, update.forwarding_enabled) == (Kind.UPDATE, False)
    assert (await fail(admin, update, "no route")).forwarding_email == "Erin@elsewhere.example"
    await confirm(admin, update)
    assert (await tenant.get_forwarding(forwarding)).status == Forwarding.READY


async def test_a_failed_provision_keeps_its_error_and_is_due_later(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "bob")
    provision = await provision_for(admin, mailbox.email)
    failed = await fail(admin, provision, "disk full")
    assert (failed.status, failed.attempts, failed.error) == (Kind.PENDING, 1, "disk full")
    assert failed.next_attempt_at.ToDatetime() > provision.next_attempt_at.ToDatetime()
    assert await fail(admin, provision, "disk full") == failed
    assert [listed for listed in await admin.provisions() if listed.id == provision.id] == []
    assert (await admin.get_mailbox(mailbox.id)).mailbox.status == tenant_pb2.Mailbox.CREATING
    assert (await confirm(admin, provision)).status == Kind.CONFIRMED


async def test_a_confirmed_provision_stays_confirmed(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "carol")
    provision = await provision_for(admin, mailbox.email)
    confirmed = await confirm(admin, provision)
    assert (confirmed.id, confirmed.status, confirmed.address) == (provision.id, Kind.CONFIRMED, mailbox.email)
    assert confirmed.HasField("settled_at")
    assert await confirm(admin, provision) == confirmed
    assert_precondition_failed(await failure_of(fail(admin, provision, "too late")), f"provision/{provision.id}")
    found = await admin.get_mailbox(mailbox.id)
    assert found.mailbox.status == tenant_pb2.Mailbox.READY
    assert found.provision_standing == mailbox_pb2.Mailbox.PROVIDED


async def test_a_deletion_does_not_withdraw_a_pending_restore(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "dave")
    await confirm(admin, await provision_for(admin, mailbox.email))
    await tenant.delete_mailbox(mailbox)
    restored = await tenant.restore_mailbox(mailbox)
    assert restored.status == tenant_pb2.Mailbox.RESTORING
    provision = await provision_for(admin, mailbox.email)
    assert provision.kind == Kind.RESTORE
    await tenant.delete_mailbox(mailbox)
    assert_precondition_failed(await failure_of(confirm(admin, provision)), f"provision/{provision.id}")
    replaced = await provision_for(admin, mailbox.email)  # it reads the state after the deletion
    assert (replaced.kind, replaced.mailbox_state.login_allowed) == (Kind.RESTORE, False)
    assert (await confirm(admin, replaced)).status == Kind.CONFIRMED
    found = await admin.get_mailbox(mailbox.id)
    assert found.mailbox.status == tenant_pb2.Mailbox.DELETION_SCHEDULED
    assert found.provision_standing == mailbox_pb2.Mailbox.PROVIDED


async def test_provisions_are_listed_page_by_page(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    mailboxes = await tenant.mailboxes(domain, *(f"m{number}" for number in range(5)))
    all_provisions = await admin.provisions()
    assert {mailbox.id for mailbox in mailboxes} <= {provision.mailbox_id for provision in all_provisions}
    listed: list[provision_pb2.Provision] = []
    token = ""
    while True:
        request = provision_pb2.ListPendingProvisionsRequest(page_size=2, page_token=token)
        page = await admin.stub.ListPendingProvisions(request)
        listed += page.provisions
        token = page.next_page_token
        if not token:
            break
    assert listed == all_provisions


async def test_what_waits_for_its_next_attempt_is_listed_on_request(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    (mailbox,) = await tenant.mailboxes(domain, "waits")
    provision = await provision_for(admin, mailbox.email)
    failed = await admin.stub.FailProvision(
        provision_pb2.FailProvisionRequest(provision_id=provision.id, reason="disk full")
    )
    due = await admin.provisions()
    assert provision.id not in {each.id for each in due}
    request = provision_pb2.ListPendingProvisionsRequest(include_waiting=True, page_size=1_000)
    every = list((await admin.stub.ListPendingProvisions(request)).provisions)
    assert every[: len(due)] == due
    assert failed.next_attempt_at in [each.next_attempt_at for each in every if each.id == provision.id]


async def test_the_history_of_a_domain_is_listed_page_by_page(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    transitions = await admin.domain_transitions(domain.id)
    status = domain_pb2.Domain.Status.Name
    assert [(status(row.from_status), status(row.to_status), row.cause) for row in transitions] == [
        ("UNKNOWN_STATUS", "CREATING", "create"),
        ("CREATING", "WAITING_VALIDATION", "provisioned"),
        ("WAITING_VALIDATION", "VALIDATING", "validate"),
        ("VALIDATING", "PROVISIONING", "records_valid"),
        ("PROVISIONING", "READY", "activate"),
    ]
    assert [row.actor.partition(":")[0] for row in transitions] == ["key", "admin", "key", "worker", "worker"]
    assert {(row.domain_id, row.organization_id, row.project_id) for row in transitions} == {
        (domain.id, tenant.organization_id, tenant.project_id)
    }
    listed: list[admin_domain_pb2.DomainTransition] = []
    token = ""
    while True:
        request = admin_domain_pb2.ListDomainTransitionsRequest(domain_id=domain.id, page_size=2, page_token=token)
        page = await admin.stub.ListDomainTransitions(request)
        listed += page.transitions
        token = page.next_page_token
        if not token:
            break
    assert listed == transitions


async def test_changes_of_a_mailbox_are_requested_with_its_whole_state(
    service: Service, tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "updated")
    created = await provision_for(admin, mailbox.email)
    ((stored,),) = await service.sql("SELECT password_hash FROM mailboxes WHERE id = ?", mailbox.id)
    assert created.mailbox_state == provision_pb2.MailboxState(
        generation=1,
        address=mailbox.email,
        login_allowed=True,
        sending_allowed=True,
        receiving_allowed=True,
        password_hash=stored,
        forwarding_keep_copy=True,
        forwarding_enabled=True,
    )
    reader = await new_operator(service, read_only=True)
    assert (await provision_for(reader, mailbox.email)).mailbox_state.password_hash == ""
    renamed = await tenant.stub.UpdateMailbox(
        tenant_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, display_name="Ada")
    )
    assert renamed.status == tenant_pb2.Mailbox.CREATING
    again = await provision_for(admin, mailbox.email)
    assert (again.kind, again.mailbox_state.display_name, again.mailbox_state.generation) == (Kind.CREATE, "Ada", 2)
    assert_precondition_failed(await failure_of(confirm(admin, created)), f"provision/{created.id}")
    assert not (await confirm(admin, again)).HasField("mailbox_state")
    alias = await tenant.alias(mailbox, "updated-alias")
    await confirm(admin, await provision_for(admin, alias.email))

    # The platform is down; each later update supersedes an earlier one.
    await tenant.stub.UpdateMailbox(
        tenant_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, new_password="a new good password")
    )
    first = await provision_for(admin, mailbox.email)
    await tenant.stub.UpdateMailbox(tenant_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, sending_disabled=True))
    await admin.stub.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="spam"))
    update = await provision_for(admin, mailbox.email)
    assert (first.kind, update.kind, update.attempts) == (Kind.UPDATE, Kind.UPDATE, 0)
    assert update.mailbox_state.generation > first.mailbox_state.generation
    assert update.mailbox_state.password_hash not in {"", stored}
    assert list(update.mailbox_state.aliases) == [alias.email]
    state = update.mailbox_state
    assert (state.login_allowed, state.sending_allowed, state.receiving_allowed) == (False, False, True)
    assert_precondition_failed(await failure_of(confirm(admin, first)), f"provision/{first.id}")
    await confirm(admin, update)
    assert [each for each in await admin.provisions() if each.mailbox_id == mailbox.id] == []

    await admin.stub.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id))
    state = (await provision_for(admin, mailbox.email)).mailbox_state
    assert (state.login_allowed, state.sending_allowed) == (True, False)
    await tenant.delete_mailbox(mailbox)
    closed = await provision_for(admin, mailbox.email)
    assert (closed.kind, closed.mailbox_state.receiving_allowed) == (Kind.UPDATE, False)
    assert (await tenant.restore_mailbox(mailbox)).status == tenant_pb2.Mailbox.RESTORING
    restore = await provision_for(admin, mailbox.email)
    assert (restore.kind, restore.mailbox_state.login_allowed) == (Kind.RESTORE, True)
    await confirm(admin, restore)
    assert (await tenant.get_mailbox(mailbox)).status == tenant_pb2.Mailbox.READY
