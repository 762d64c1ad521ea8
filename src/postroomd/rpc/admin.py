"""The RPCs of the admin service, for the operator, the billing system and the mail platform."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from postroom.admin.v1alpha1 import audit_pb2, mailbox_pb2, payment_pb2, provision_pb2
from postroomd.domain.audit import AuditEvent, AuditFilter
from postroomd.domain.context import CallContext
from postroomd.domain.errors import InvalidArguments, NotFound, Reason, Violation
from postroomd.domain.history import Tombstone
from postroomd.domain.mailbox_updates import request_update
from postroomd.domain.mailboxes import lock_mailbox, unlock_mailbox
from postroomd.domain.model import DomainStatus, Mailbox
from postroomd.domain.payments import Payment, confirm_payment, refuse_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, fail_provision
from postroomd.domain.provisions import Provision
from postroomd.domain.queries import Slice
from postroomd.domain.validation import Checker, check_id, checking, is_uuid
from postroomd.rpc import admin_convert as convert
from postroomd.rpc.admin_requests import MAX_PAGE_SIZE, check_mailbox
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.audit import AuditLog
from postroomd.storage.protocols.rules import MailboxRule, PaymentRule

MAX_FILTER = 255  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServicer:
    """The RPCs of the admin service."""

    administration: Administration
    audit: AuditLog
    policy: LifecyclePolicy
    clock: Callable[[], datetime]

    async def ListPendingPayments(
        self, request: payment_pb2.ListPendingPaymentsRequest, context: CallContext
    ) -> Slice[Payment]:
        """List the payments that are not confirmed."""
        with checking() as check:
            limit = check.limit(request.page_size, MAX_PAGE_SIZE)
        return await self.administration.pending_payments(request.page_token, limit)

    async def ConfirmPayment(self, request: payment_pb2.ConfirmPaymentRequest, context: CallContext) -> Payment:
        """Record that a payment was made."""
        payment_id = check_id("payment_id", request.payment_id)
        return await self._settle_payment(context, payment_id, partial(confirm_payment, now=self.clock()))

    async def RefusePayment(self, request: payment_pb2.RefusePaymentRequest, context: CallContext) -> Payment:
        """Record that a payment was refused."""
        with checking() as check:
            payment_id = check.uuid("payment_id", request.payment_id)
            reason = check.reason(request.reason)
        rule = partial(refuse_payment, reason=reason, policy=self.policy, now=self.clock())
        return await self._settle_payment(context, payment_id, rule)

    async def _settle_payment(self, context: CallContext, payment_id: str, rule: PaymentRule) -> Payment:
        def requesting(
            payment: Payment, mailbox: Mailbox | None, status: DomainStatus
        ) -> tuple[Payment, Mailbox | None]:
            settled, changed = rule(payment, mailbox, status)
            if mailbox is not None and changed is not None:
                changed = request_update(mailbox, changed, self.policy)
            return settled, changed

        return await self.administration.settle_payment(context, payment_id, requesting)

    async def _change_mailbox(self, context: CallContext, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        def requesting(mailbox: Mailbox, status: DomainStatus) -> Mailbox:
            return request_update(mailbox, rule(mailbox, status), self.policy)

        return await self.administration.change_mailbox(context, mailbox_id, requesting)

    async def LockMailbox(self, request: mailbox_pb2.LockMailboxRequest, context: CallContext) -> Mailbox:
        """Lock a mailbox."""
        with checking() as check:
            subject = check_mailbox(check, request)
            reason = check.reason(request.reason)
        mailbox_id = await self._mailbox_id(subject)
        return await self._change_mailbox(context, mailbox_id, partial(lock_mailbox, reason=reason, now=self.clock()))

    async def UnlockMailbox(self, request: mailbox_pb2.UnlockMailboxRequest, context: CallContext) -> Mailbox:
        """Unlock a mailbox."""
        with checking() as check:
            subject = check_mailbox(check, request)
        mailbox_id = await self._mailbox_id(subject)
        return await self._change_mailbox(context, mailbox_id, partial(unlock_mailbox, now=self.clock()))

    async def _mailbox_id(self, subject: str) -> str:
        """Return the id of the mailbox that a canonical address or an id names.

        Raises NotFound, and InvalidArguments for an address that several mailboxes have.
        """
        if is_uuid(subject):
            return subject
        ids = await self.administration.mailboxes_in_use(subject)
        if not ids:
            raise NotFound("mailbox", subject)
        if len(ids) > 1:
            message = (
                f"several organizations have a mailbox with this address: name it by its id, one of {', '.join(ids)}"
            )
            raise InvalidArguments([Violation("address", Reason.CONSTRAINT, message)])
        return ids[0]

    async def ListPendingProvisions(
        self, request: provision_pb2.ListPendingProvisionsRequest, context: CallContext
    ) -> Slice[Provision]:
        """List the provisions that are due, and on request those that wait."""
        with checking() as check:
            limit = check.limit(request.page_size, MAX_PAGE_SIZE)
        due_by = None if request.include_waiting else self.clock()
        listed = await self.administration.pending_provisions(due_by, request.page_token, limit)
        return listed if context.password_hashes else replace(listed, items=[*map(_without_hash, listed.items)])

    async def ConfirmProvision(self, request: provision_pb2.ConfirmProvisionRequest, context: CallContext) -> Provision:
        """Record that the mail platform completed a provision."""
        provision_id = check_id("provision_id", request.provision_id)
        return await self.administration.settle_provision(
            context, provision_id, partial(confirm_provision, now=self.clock())
        )

    async def FailProvision(self, request: provision_pb2.FailProvisionRequest, context: CallContext) -> Provision:
        """Record that a provision failed, and schedule its next attempt."""
        with checking() as check:
            provision_id = check.uuid("provision_id", request.provision_id)
            reason = check.reason(request.reason)
        rule = partial(fail_provision, reason=reason, now=self.clock())
        return await self.administration.settle_provision(context, provision_id, rule)

    async def GetMailbox(self, request: mailbox_pb2.GetMailboxRequest, context: CallContext) -> Mailbox | Tombstone:
        """Return a mailbox, or the tombstone of a purged one."""
        return await self.administration.get_mailbox(check_id("mailbox_id", request.mailbox_id))

    async def ListAuditEvents(
        self, request: audit_pb2.ListAuditEventsRequest, context: CallContext
    ) -> Slice[AuditEvent]:
        """List the audit log, newest first."""
        with checking() as check:
            limit = check.limit(request.page_size, MAX_PAGE_SIZE)
            matching = AuditFilter(
                organization_id=check.optional_uuid("organization_id", request.organization_id),
                project_id=check.optional_uuid("project_id", request.project_id),
                actor=check.text("actor", request.actor, MAX_FILTER) or None,
                resource_id=_resource_id(check, request.resource_id),
                since=_instant(check, "since", request.since) if request.HasField("since") else None,
                until=_instant(check, "until", request.until) if request.HasField("until") else None,
            )
        return await self.audit.list(matching, request.page_token, limit)

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "ListPendingPayments": Rpc(self.ListPendingPayments, convert.payments_message),
            "ConfirmPayment": Rpc(self.ConfirmPayment, convert.payment_message),
            "RefusePayment": Rpc(self.RefusePayment, convert.payment_message),
            "LockMailbox": Rpc(self.LockMailbox, convert.admin_mailbox_message),
            "UnlockMailbox": Rpc(self.UnlockMailbox, convert.admin_mailbox_message),
            "ListPendingProvisions": Rpc(self.ListPendingProvisions, convert.provisions_message),
            "ConfirmProvision": Rpc(self.ConfirmProvision, convert.provision_message),
            "FailProvision": Rpc(self.FailProvision, convert.provision_message),
            "GetMailbox": Rpc(self.GetMailbox, convert.mailbox_response),
            "ListAuditEvents": Rpc(self.ListAuditEvents, convert.audit_events_message),
        }


def _without_hash(provision: Provision) -> Provision:
    """Return a provision as a read-only key sees it: who only reads has no use for a password's hash."""
    if provision.mailbox_state is None:
        return provision
    return replace(provision, mailbox_state=replace(provision.mailbox_state, password_hash=""))


def _resource_id(check: Checker, value: str) -> str | None:
    """Return the id of a resource, a UUID in lower case; None if it is not set."""
    checked = check.text("resource_id", value, MAX_FILTER)
    return (checked.lower() if is_uuid(checked) else checked) or None


def _instant(check: Checker, field: str, value: Timestamp) -> datetime | None:
    """Return the instant of a timestamp in a request."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        check.refuse(field, Reason.FORMAT, "must be a time between the years 1 and 9999")
        return None
