"""Conversion from the domain to the messages of the admin contract, as convert.py does for the tenants' contract."""

from dataclasses import fields

from postroom.admin.v1alpha1 import audit_pb2, dkim_pb2, domain_pb2, mailbox_pb2, payment_pb2, provision_pb2
from postroom.v1alpha1 import domain_pb2 as tenant_domain_pb2
from postroom.v1alpha1 import mailbox_pb2 as tenant_pb2
from postroomd.domain.audit import AuditEvent
from postroomd.domain.dkim import DkimKeys
from postroomd.domain.events import PaymentStanding, ProvisionStanding
from postroomd.domain.history import DomainTransition, Tombstone, Transition
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import Payment, PaymentStatus
from postroomd.domain.provisions import MailboxState, Provision, ProvisionKind, ProvisionStatus
from postroomd.domain.queries import Slice
from postroomd.domain.records import DKIM_KIND, NEXT_DKIM_KIND, PREVIOUS_DKIM_KIND, visible_record
from postroomd.rpc.convert import enum_numbers, mailbox_message, optional_timestamp, record_message, timestamp

_DOMAIN_STATUS = enum_numbers(DomainStatus, tenant_domain_pb2.Domain.Status)
_MAILBOX_STATUS = enum_numbers(MailboxStatus, tenant_pb2.Mailbox.Status)
_PERIOD = enum_numbers(SubscriptionPeriod, tenant_pb2.Mailbox.SubscriptionPeriod)
_PAYMENT_STATUS = enum_numbers(PaymentStatus, payment_pb2.Payment.Status)
_PROVISION_KIND = enum_numbers(ProvisionKind, provision_pb2.Provision.Kind)
_PROVISION_STATUS = enum_numbers(ProvisionStatus, provision_pb2.Provision.Status)
_PAYMENT_STANDING = enum_numbers(PaymentStanding, mailbox_pb2.Mailbox.PaymentStanding)
_PROVISION_STANDING = enum_numbers(ProvisionStanding, mailbox_pb2.Mailbox.ProvisionStanding)


def payment_message(payment: Payment) -> payment_pb2.Payment:
    """Return the message of a payment."""
    return payment_pb2.Payment(
        id=payment.id,
        mailbox_id=payment.mailbox_id,
        project_id=payment.project_id,
        organization_id=payment.organization_id,
        status=_PAYMENT_STATUS[payment.status],
        period=_PERIOD[payment.period],
        period_started_at=optional_timestamp(payment.period_started_at),
        requested_at=timestamp(payment.requested_at),
        overdue_at=timestamp(payment.overdue_at),
        settled_at=optional_timestamp(payment.settled_at),
        reason=payment.reason or "",
        address=payment.address,
    )


def payments_message(payments: Slice[Payment]) -> payment_pb2.ListPendingPaymentsResponse:
    """Return the message of a page of payments."""
    return payment_pb2.ListPendingPaymentsResponse(
        payments=map(payment_message, payments.items), next_page_token=payments.next_cursor
    )


def provision_message(provision: Provision) -> provision_pb2.Provision:
    """Return the message of a provision."""
    return provision_pb2.Provision(
        id=provision.id,
        kind=_PROVISION_KIND[provision.kind],
        status=_PROVISION_STATUS[provision.status],
        mailbox_id=provision.mailbox_id or "",
        alias_id=provision.alias_id or "",
        forwarding_id=provision.forwarding_id or "",
        forwarding_email=provision.forwarding_email,
        forwarding_keep_copy=provision.forwarding_keep_copy,
        forwarding_enabled=provision.forwarding_enabled,
        domain_id=provision.domain_id,
        project_id=provision.project_id,
        organization_id=provision.organization_id,
        attempts=provision.attempts,
        error=provision.error or "",
        requested_at=timestamp(provision.requested_at),
        next_attempt_at=timestamp(provision.next_attempt_at),
        settled_at=optional_timestamp(provision.settled_at),
        address=provision.address,
        mailbox_state=_state_message(provision.mailbox_state) if provision.mailbox_state else None,
    )


def _state_message(state: MailboxState) -> provision_pb2.MailboxState:
    return provision_pb2.MailboxState(**{field.name: getattr(state, field.name) for field in fields(state)})


def provisions_message(provisions: Slice[Provision]) -> provision_pb2.ListPendingProvisionsResponse:
    """Return the message of a page of provisions."""
    return provision_pb2.ListPendingProvisionsResponse(
        provisions=map(provision_message, provisions.items), next_page_token=provisions.next_cursor
    )


def admin_mailbox_message(mailbox: Mailbox) -> mailbox_pb2.Mailbox:
    """Return the admin contract's message of a mailbox."""
    return mailbox_pb2.Mailbox(
        mailbox=mailbox_message(mailbox),
        lock_reason=mailbox.lock_reason,
        payment_standing=_PAYMENT_STANDING[mailbox.payment],
        payment_step_at=optional_timestamp(mailbox.payment_step_at),
        provision_standing=_PROVISION_STANDING[mailbox.provision],
    )


def mailbox_response(mailbox: Mailbox | Tombstone) -> mailbox_pb2.GetMailboxResponse:
    """Return the response with a mailbox, or with the tombstone of a purged one."""
    if isinstance(mailbox, Tombstone):
        return mailbox_pb2.GetMailboxResponse(tombstone=tombstone_message(mailbox))
    return mailbox_pb2.GetMailboxResponse(mailbox=admin_mailbox_message(mailbox))


def tombstone_message(tombstone: Tombstone) -> mailbox_pb2.Tombstone:
    """Return the message of a purged mailbox's tombstone."""
    return mailbox_pb2.Tombstone(
        mailbox_id=tombstone.mailbox_id,
        domain_id=tombstone.domain_id,
        project_id=tombstone.project_id,
        organization_id=tombstone.organization_id,
        purged_at=timestamp(tombstone.purged_at),
        cause=tombstone.cause.value,
    )


def transition_message(transition: Transition) -> mailbox_pb2.Transition:
    """Return the message of a transition."""
    return mailbox_pb2.Transition(
        mailbox_id=transition.mailbox_id,
        revision=transition.revision,
        from_status=_status(transition.from_status),
        to_status=_status(transition.to_status),
        at=timestamp(transition.at),
        cause=transition.cause.value,
        actor=transition.actor,
        reason=transition.reason,
        organization_id=transition.organization_id,
        project_id=transition.project_id,
        domain_id=transition.domain_id,
    )


def transitions_message(transitions: Slice[Transition]) -> mailbox_pb2.ListTransitionsResponse:
    """Return the message of a page of transitions."""
    return mailbox_pb2.ListTransitionsResponse(
        transitions=map(transition_message, transitions.items), next_page_token=transitions.next_cursor
    )


def domain_transition_message(transition: DomainTransition) -> domain_pb2.DomainTransition:
    """Return the message of a domain's transition."""
    return domain_pb2.DomainTransition(
        domain_id=transition.domain_id,
        organization_id=transition.organization_id,
        project_id=transition.project_id,
        revision=transition.revision,
        from_status=_domain_status(transition.from_status),
        to_status=_domain_status(transition.to_status),
        at=timestamp(transition.at),
        cause=transition.cause.value,
        actor=transition.actor,
    )


def domain_transitions_message(transitions: Slice[DomainTransition]) -> domain_pb2.ListDomainTransitionsResponse:
    """Return the message of a page of a domain's transitions."""
    return domain_pb2.ListDomainTransitionsResponse(
        transitions=map(domain_transition_message, transitions.items), next_page_token=transitions.next_cursor
    )


def audit_event_message(event: AuditEvent) -> audit_pb2.AuditEvent:
    """Return the message of an audit event."""
    return audit_pb2.AuditEvent(
        id=event.id,
        at=timestamp(event.at),
        actor=event.actor,
        action=event.action,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        resource_ids=event.resource_ids,
        organization_id=event.organization_id or "",
        project_id=event.project_id or "",
        arguments=event.arguments,
        client_address=event.client_address,
        request_id=event.request_id,
    )


def audit_events_message(events: Slice[AuditEvent]) -> audit_pb2.ListAuditEventsResponse:
    """Return the message of a page of audit events."""
    return audit_pb2.ListAuditEventsResponse(
        events=map(audit_event_message, events.items), next_page_token=events.next_cursor
    )


_DKIM_ROLES = {
    DKIM_KIND: dkim_pb2.DkimKey.SIGNING,
    NEXT_DKIM_KIND: dkim_pb2.DkimKey.NEXT,
    PREVIOUS_DKIM_KIND: dkim_pb2.DkimKey.PREVIOUS,
}
"""The roles of keys by the kinds of their records, in the order of the response."""


def dkim_keys_message(keys: DkimKeys) -> dkim_pb2.DkimKeys:
    """Return the message of a domain's DKIM keys."""
    domain, rotation = keys.domain, keys.rotation
    return dkim_pb2.DkimKeys(
        domain_id=domain.id,
        name=domain.name,
        organization_id=domain.organization_id,
        project_id=domain.project_id,
        keys=[
            dkim_pb2.DkimKey(
                role=role,
                selector=rotation.selector if rotation and kind != DKIM_KIND else keys.selector,
                record=record_message(visible_record(keys.records[kind], domain.status)),
            )
            for kind, role in _DKIM_ROLES.items()
            if kind in keys.records
        ],
        rotation_started_at=optional_timestamp(rotation.started_at if rotation else None),
        switched_at=optional_timestamp(rotation.switched_at if rotation else None),
        retires_at=optional_timestamp(rotation.retires_at if rotation else None),
    )


def dkim_rotations_message(rotations: Slice[DkimKeys]) -> dkim_pb2.ListDkimRotationsResponse:
    """Return the message of a page of domains with a rotation in progress."""
    return dkim_pb2.ListDkimRotationsResponse(
        domains=map(dkim_keys_message, rotations.items), next_page_token=rotations.next_cursor
    )


def _domain_status(status: DomainStatus | None) -> "tenant_domain_pb2.Domain.Status.ValueType":
    return _DOMAIN_STATUS[status] if status else tenant_domain_pb2.Domain.UNKNOWN_STATUS


def _status(status: MailboxStatus | None) -> "tenant_pb2.Mailbox.Status.ValueType":
    return _MAILBOX_STATUS[status] if status else tenant_pb2.Mailbox.UNKNOWN_STATUS
