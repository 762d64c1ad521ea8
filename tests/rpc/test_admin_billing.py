"""The admin service: payments, locks and the history of mailboxes."""

from collections.abc import Mapping

import pytest
import pytest_asyncio

from postroom.admin.v1alpha1 import mailbox_pb2, payment_pb2
from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from tests.rpc.admin_client import ADMIN_OVERRIDES, Operator, new_operator
from tests.rpc.client import Tenant
from tests.rpc.failures import assert_precondition_failed, failure_of
from tests.rpc.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

Standing = mailbox_pb2.Mailbox


@pytest.fixture(scope="module")
def overrides() -> Mapping[str, str]:
    return ADMIN_OVERRIDES | {"billing": "manual"}


@pytest_asyncio.fixture(loop_scope="module")
async def admin(service: Service) -> Operator:
    return await new_operator(service)


@pytest_asyncio.fixture(loop_scope="module")
async def domain(tenant: Tenant) -> domain_pb2.Domain:
    return await tenant.ready_domain()


async def payment_of(admin: Operator, mailbox: tenant_pb2.Mailbox) -> payment_pb2.Payment:
    """The pending payment of a mailbox."""
    (payment,) = (payment for payment in await admin.payments() if payment.mailbox_id == mailbox.id)
    return payment


async def confirm(admin: Operator, payment: payment_pb2.Payment) -> payment_pb2.Payment:
    return await admin.stub.ConfirmPayment(payment_pb2.ConfirmPaymentRequest(payment_id=payment.id))


async def refuse(admin: Operator, payment: payment_pb2.Payment, reason: str = "no funds") -> payment_pb2.Payment:
    return await admin.stub.RefusePayment(payment_pb2.RefusePaymentRequest(payment_id=payment.id, reason=reason))


async def status_of(tenant: Tenant, mailbox: tenant_pb2.Mailbox) -> str:
    """The status of a mailbox, as its tenant sees it."""
    return tenant_pb2.Mailbox.Status.Name((await tenant.get_mailbox(mailbox)).status)


# --- Payments


async def test_a_payment_names_its_tenant_mailbox_and_period(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "ann")
    payment = await payment_of(admin, mailbox)
    assert (payment.organization_id, payment.project_id) == (tenant.organization_id, tenant.project_id)
    assert (payment.address, payment.status) == (mailbox.email, payment_pb2.Payment.PENDING)
    assert payment.period == tenant_pb2.Mailbox.MONTHLY
    assert payment.requested_at == mailbox.created_at
    assert not payment.HasField("period_started_at")
    assert payment.overdue_at.seconds - payment.requested_at.seconds == 7 * 86_400
    assert not payment.HasField("settled_at")
    found = await admin.get_mailbox(mailbox.id)
    assert found.mailbox == mailbox
    assert (found.payment_standing, found.payment_step_at) == (Standing.FIRST_AWAITED, payment.overdue_at)
    assert found.provision_standing == Standing.PROVIDED


async def test_a_confirmed_payment_stays_confirmed(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    mailbox = await tenant.mailbox(domain, "bob")
    payment = await payment_of(admin, mailbox)
    assert mailbox.subscription_period == tenant_pb2.Mailbox.UNKNOWN_SUBSCRIPTION_PERIOD
    assert mailbox.next_subscription_period == tenant_pb2.Mailbox.MONTHLY
    assert not mailbox.HasField("subscription_period_started_at")
    assert not mailbox.HasField("next_subscription_period_starts_at")
    confirmed = await confirm(admin, payment)
    assert (confirmed.id, confirmed.status) == (payment.id, payment_pb2.Payment.CONFIRMED)
    started = await tenant.get_mailbox(mailbox)
    assert started.subscription_period == started.next_subscription_period == tenant_pb2.Mailbox.MONTHLY
    assert started.HasField("next_subscription_period_starts_at")
    assert started.subscription_period_started_at == confirmed.period_started_at == confirmed.settled_at
    assert started.etag != mailbox.etag
    assert confirmed.HasField("settled_at")
    assert await status_of(tenant, mailbox) == "READY"
    assert await confirm(admin, payment) == confirmed
    assert_precondition_failed(await failure_of(refuse(admin, payment)), f"payment/{payment.id}")
    assert await status_of(tenant, mailbox) == "READY"


async def test_a_refused_payment_keeps_its_reason_and_can_be_confirmed(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "carol")
    payment = await payment_of(admin, mailbox)
    refused = await refuse(admin, payment, "card expired")
    assert (refused.status, refused.reason) == (payment_pb2.Payment.REFUSED, "card expired")
    assert await refuse(admin, payment, "another reason") == refused
    assert await payment_of(admin, mailbox) == refused
    assert await status_of(tenant, mailbox) == "PAYMENT_FAILED"
    assert (await admin.get_mailbox(mailbox.id)).payment_standing == Standing.FAILED
    assert (await confirm(admin, payment)).status == payment_pb2.Payment.CONFIRMED
    assert await status_of(tenant, mailbox) == "READY"


async def test_payments_are_listed_page_by_page(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    for number in range(5):
        await tenant.mailbox(domain, f"m{number}")
    all_payments = await admin.payments()
    listed: list[payment_pb2.Payment] = []
    token, sizes = "", []
    while True:
        page = await admin.stub.ListPendingPayments(
            payment_pb2.ListPendingPaymentsRequest(page_size=2, page_token=token)
        )
        listed += page.payments
        sizes.append(len(page.payments))
        token = page.next_page_token
        if not token:
            break
    assert listed == all_payments
    assert set(sizes[:-1]) == {2}
    instants = [(payment.requested_at.ToDatetime(), payment.id) for payment in listed]
    assert instants == sorted(instants)


async def test_a_page_size_beyond_the_maximum_is_reduced_to_it(admin: Operator) -> None:
    page = await admin.stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest(page_size=2**31 - 1))
    assert list(page.payments) == await admin.payments()


# --- Locks


async def test_only_the_operator_can_lock_and_unlock_a_mailbox(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "dave")
    await confirm(admin, await payment_of(admin, mailbox))
    lock = mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="sends spam")
    locked = await admin.stub.LockMailbox(lock)
    assert (locked.lock_reason, locked.mailbox.status) == ("sends spam", tenant_pb2.Mailbox.LOCKED)
    assert await admin.stub.LockMailbox(lock) == locked
    lock.reason = "still sends spam"
    assert (await admin.stub.LockMailbox(lock)).lock_reason == "still sends spam"

    update = tenant_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=tenant_pb2.Mailbox.YEARLY)
    failure = await failure_of(tenant.stub.UpdateMailbox(update))
    assert failure.info.reason == "LOCKED"
    assert "spam" not in failure.text

    unlock = mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id)
    unlocked = await admin.stub.UnlockMailbox(unlock)
    assert not unlocked.HasField("lock_reason")
    assert unlocked.mailbox.status == tenant_pb2.Mailbox.READY
    assert await admin.stub.UnlockMailbox(unlock) == unlocked


async def test_an_unlocked_mailbox_still_waits_for_its_payment(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "erin")
    await admin.stub.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="as a test"))
    unlocked = await admin.stub.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id))
    assert unlocked.mailbox.status == tenant_pb2.Mailbox.WAITING_PAYMENT


async def test_an_idempotency_key_is_ignored(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    mailbox = await tenant.mailbox(domain, "frank")
    for reason in ("one", "another"):
        call = admin.stub.LockMailbox(
            mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason=reason),
            metadata=(("idempotency-key", "the same"),),
        )
        assert (await call).lock_reason == reason


# --- History


async def test_every_transition_is_recorded_with_its_event_and_actor(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "grace")
    await confirm(admin, await payment_of(admin, mailbox))
    await admin.stub.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="as a test"))
    await admin.stub.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id))
    await tenant.stub.DeleteMailbox(tenant_pb2.DeleteMailboxRequest(mailbox_id=mailbox.id))
    transitions = await admin.transitions(mailbox.id)
    name = tenant_pb2.Mailbox.Status.Name
    operator, caller = f"admin:{admin.name}", f"key:{tenant.access_key}"
    assert [(name(row.from_status), name(row.to_status), row.cause, row.actor) for row in transitions] == [
        ("UNKNOWN_STATUS", "WAITING_PAYMENT", "create", caller),
        ("WAITING_PAYMENT", "READY", "payment_confirmed", operator),
        ("READY", "LOCKED", "lock", operator),
        ("LOCKED", "READY", "unlock", operator),
        ("READY", "DELETION_SCHEDULED", "delete", caller),
    ]
    assert {row.mailbox_id for row in transitions} == {mailbox.id}
    assert transitions[0].at == mailbox.created_at
    instants = [row.at.ToDatetime() for row in transitions]
    assert instants == sorted(instants)

    listed: list[mailbox_pb2.Transition] = []
    token = ""
    for _ in range(3):
        request = mailbox_pb2.ListTransitionsRequest(mailbox_id=mailbox.id, page_size=2, page_token=token)
        page = await admin.stub.ListTransitions(request)
        listed += page.transitions
        token = page.next_page_token
    assert (listed, token) == (transitions, "")
