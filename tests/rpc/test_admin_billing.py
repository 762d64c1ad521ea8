"""What an operator does about payments and locks, and what is told of it."""

from collections.abc import Mapping

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from postroom.admin.v1alpha1 import mailbox_pb2, payment_pb2
from postroom.v1alpha1 import domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from tests.rpc.operators import ADMIN_FLAGS, Operator, operator
from tests.rpc.support import Failure, Service, Tenant, failure_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

Standing = mailbox_pb2.Mailbox


@pytest.fixture(scope="module")
def flags() -> Mapping[str, str]:
    return ADMIN_FLAGS | {"billing": "manual"}


@pytest_asyncio.fixture(loop_scope="module")
async def admin(service: Service) -> Operator:
    return await operator(service)


@pytest_asyncio.fixture(loop_scope="module")
async def domain(tenant: Tenant) -> domain_pb2.Domain:
    return await tenant.ready_domain()


async def payment_of(admin: Operator, mailbox: tenant_pb2.Mailbox) -> payment_pb2.Payment:
    """The open payment of a mailbox."""
    (payment,) = (payment for payment in await admin.payments() if payment.mailbox_id == mailbox.id)
    return payment


async def confirm(admin: Operator, payment: payment_pb2.Payment) -> payment_pb2.Payment:
    return await admin.stub.ConfirmPayment(payment_pb2.ConfirmPaymentRequest(payment_id=payment.id))


async def refuse(admin: Operator, payment: payment_pb2.Payment, reason: str = "no funds") -> payment_pb2.Payment:
    return await admin.stub.RefusePayment(payment_pb2.RefusePaymentRequest(payment_id=payment.id, reason=reason))


async def status_of(tenant: Tenant, mailbox: tenant_pb2.Mailbox) -> str:
    """Where the mailbox stands, as its tenant sees it."""
    found = await tenant.stub.GetMailbox(tenant_pb2.GetMailboxRequest(mailbox_id=mailbox.id))
    return tenant_pb2.Mailbox.Status.Name(found.status)


def require_precondition(failure: Failure, subject: str) -> None:
    """Raise AssertionError where a call has not failed for the state of its subject."""
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    (violation,) = failure.only(error_details_pb2.PreconditionFailure).violations
    assert (violation.type, violation.subject) == ("unknown_precondition", subject)


# --- Payments ---------------------------------------------------------------------------------------------------------


async def test_a_payment_says_whose_it_is_and_what_for(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "ann")
    payment = await payment_of(admin, mailbox)
    assert (payment.organization_id, payment.project_id) == (tenant.organization_id, tenant.project_id)
    assert (payment.address, payment.status) == (mailbox.email, payment_pb2.Payment.PENDING)
    assert payment.period == tenant_pb2.Mailbox.MONTHLY
    assert payment.period_started_at == mailbox.subscription_period_started_at == payment.requested_at
    assert payment.overdue_at.seconds - payment.requested_at.seconds == 7 * 86_400
    assert not payment.HasField("settled_at")
    found = (await admin.found(mailbox.id)).mailbox
    assert found.mailbox == mailbox
    assert (found.payment_standing, found.payment_step_at) == (Standing.FIRST_AWAITED, payment.overdue_at)
    assert found.provision_standing == Standing.PROVIDED


async def test_a_payment_is_confirmed_once_and_stays_so(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "bob")
    payment = await payment_of(admin, mailbox)
    confirmed = await confirm(admin, payment)
    assert (confirmed.id, confirmed.status) == (payment.id, payment_pb2.Payment.CONFIRMED)
    assert confirmed.HasField("settled_at")
    assert await status_of(tenant, mailbox) == "READY"
    assert await confirm(admin, payment) == confirmed
    require_precondition(await failure_of(refuse(admin, payment)), f"payment/{payment.id}")
    assert await status_of(tenant, mailbox) == "READY"


async def test_a_refused_payment_keeps_its_first_reason_and_can_be_confirmed(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "carol")
    payment = await payment_of(admin, mailbox)
    refused = await refuse(admin, payment, "card expired")
    assert (refused.status, refused.reason) == (payment_pb2.Payment.REFUSED, "card expired")
    assert await refuse(admin, payment, "another reason") == refused
    assert await payment_of(admin, mailbox) == refused
    assert await status_of(tenant, mailbox) == "PAYMENT_FAILED"
    assert (await admin.found(mailbox.id)).mailbox.payment_standing == Standing.FAILED
    assert (await confirm(admin, payment)).status == payment_pb2.Payment.CONFIRMED
    assert await status_of(tenant, mailbox) == "READY"


async def test_payments_are_listed_page_by_page(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    for number in range(5):
        await tenant.mailbox(domain, f"m{number}")
    everything = await admin.payments()
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
    assert listed == everything
    assert set(sizes[:-1]) == {2}
    moments = [(payment.requested_at.ToDatetime(), payment.id) for payment in listed]
    assert moments == sorted(moments)


async def test_more_than_the_largest_page_is_the_largest_page(admin: Operator) -> None:
    page = await admin.stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest(page_size=2**31 - 1))
    assert list(page.payments) == await admin.payments()


# --- Locks ------------------------------------------------------------------------------------------------------------


async def test_a_lock_is_the_operators_alone(tenant: Tenant, admin: Operator, domain: domain_pb2.Domain) -> None:
    mailbox = await tenant.mailbox(domain, "dave")
    await confirm(admin, await payment_of(admin, mailbox))
    lock = mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="sends spam")
    locked = await admin.stub.LockMailbox(lock)
    assert (locked.lock_reason, locked.mailbox.status) == ("sends spam", tenant_pb2.Mailbox.LOCKED)
    assert await admin.stub.LockMailbox(lock) == locked
    lock.reason = "still does"
    assert (await admin.stub.LockMailbox(lock)).lock_reason == "still does"

    update = tenant_pb2.UpdateMailboxRequest(mailbox_id=mailbox.id, subscription_period=tenant_pb2.Mailbox.YEARLY)
    failure = await failure_of(tenant.stub.UpdateMailbox(update))
    assert failure.info.reason == "LOCKED"
    assert "spam" not in failure.text

    unlock = mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id)
    unlocked = await admin.stub.UnlockMailbox(unlock)
    assert not unlocked.HasField("lock_reason")
    assert unlocked.mailbox.status == tenant_pb2.Mailbox.READY
    assert await admin.stub.UnlockMailbox(unlock) == unlocked


async def test_an_unlocked_mailbox_still_owes_what_it_owed(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "erin")
    await admin.stub.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="as a test"))
    unlocked = await admin.stub.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id))
    assert unlocked.mailbox.status == tenant_pb2.Mailbox.WAITING_PAYMENT


async def test_an_idempotency_key_means_nothing_here(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "frank")
    for reason in ("one", "another"):
        call = admin.stub.LockMailbox(
            mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason=reason),
            metadata=(("idempotency-key", "the same"),),
        )
        assert (await call).lock_reason == reason


# --- History ----------------------------------------------------------------------------------------------------------


async def test_every_change_is_told_with_who_made_it(
    tenant: Tenant, admin: Operator, domain: domain_pb2.Domain
) -> None:
    mailbox = await tenant.mailbox(domain, "grace")
    await confirm(admin, await payment_of(admin, mailbox))
    await admin.stub.LockMailbox(mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox.id, reason="as a test"))
    await admin.stub.UnlockMailbox(mailbox_pb2.UnlockMailboxRequest(mailbox_id=mailbox.id))
    await tenant.stub.DeleteMailbox(tenant_pb2.DeleteMailboxRequest(mailbox_id=mailbox.id))
    told = await admin.transitions(mailbox.id)
    name = tenant_pb2.Mailbox.Status.Name
    us, them = f"admin:{admin.name}", f"key:{tenant.access_key}"
    assert [(name(row.from_status), name(row.to_status), row.cause, row.actor) for row in told] == [
        ("UNKNOWN_STATUS", "WAITING_PAYMENT", "create", them),
        ("WAITING_PAYMENT", "READY", "payment_confirmed", us),
        ("READY", "LOCKED", "lock", us),
        ("LOCKED", "READY", "unlock", us),
        ("READY", "DELETION_SCHEDULED", "delete", them),
    ]
    assert {row.mailbox_id for row in told} == {mailbox.id}
    assert told[0].at == mailbox.created_at
    moments = [row.at.ToDatetime() for row in told]
    assert moments == sorted(moments)

    listed: list[mailbox_pb2.Transition] = []
    token = ""
    for _ in range(3):
        request = mailbox_pb2.ListTransitionsRequest(mailbox_id=mailbox.id, page_size=2, page_token=token)
        page = await admin.stub.ListTransitions(request)
        listed += page.transitions
        token = page.next_page_token
    assert (listed, token) == (told, "")
