"""`postroom payments` and `provisions`: the operator's decisions, by the admin service."""

from typing import Annotated

import typer

from postroomd.cli.connection import admin_service
from postroomd.cli.messages import list_rows, to_row
from postroomd.cli.options import Limit, with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row, print_rows
from postroomd.settings import Settings

PAGE_SIZE = 1_000
PAYMENT_COLUMNS = ("id", "status", "address", "period", "requested_at", "overdue_at", "reason")
PROVISION_COLUMNS = ("id", "kind", "address", "requested_at", "attempts", "next_attempt_at", "error")

payments = typer.Typer(
    name="payments", help="Payments that the operator confirms or refuses.", no_args_is_help=True, rich_markup_mode=None
)
provisions = typer.Typer(
    name="provisions", help="Work of the mail platform to confirm.", no_args_is_help=True, rich_markup_mode=None
)
PaymentId = Annotated[str, typer.Argument(metavar="PAYMENT_ID")]
ProvisionId = Annotated[str, typer.Argument(metavar="PROVISION_ID")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="The reason, for your records: no personal data.")
]


@payments.command("list")
@with_settings("operator client")
def list_payments(*, settings: Settings, limit: Limit = 0, output: ListOutput = ListFormat.TABLE) -> None:
    """List payments that are pending, refused or overdue, oldest request first."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.payment_pb2 import ListPendingPaymentsRequest

        request = ListPendingPaymentsRequest()
        listed = list_rows(service.ListPendingPayments, request, "payments", PAGE_SIZE, limit)
    print_rows(listed, PAYMENT_COLUMNS, output)


@payments.command("confirm")
@with_settings("operator client")
def confirm_payment(*, settings: Settings, payment_id: PaymentId, output: ListOutput = ListFormat.TABLE) -> None:
    """Confirm that a period is paid."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.payment_pb2 import ConfirmPaymentRequest

        payment = service.ConfirmPayment(ConfirmPaymentRequest(payment_id=payment_id))
    print_row(to_row(payment), output)


@payments.command("refuse")
@with_settings("operator client")
def refuse_payment(
    *, settings: Settings, payment_id: PaymentId, reason: Reason, output: ListOutput = ListFormat.TABLE
) -> None:
    """Refuse a payment: the mailbox is locked after the grace period, unless the payment is confirmed."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.payment_pb2 import RefusePaymentRequest

        payment = service.RefusePayment(RefusePaymentRequest(payment_id=payment_id, reason=reason))
    print_row(to_row(payment), output)


@provisions.command("list")
@with_settings("operator client")
def list_provisions(
    *,
    settings: Settings,
    due: Annotated[
        bool, typer.Option("--due", help="Leave out those that have failed and wait for their next attempt.")
    ] = False,
    limit: Limit = 0,
    output: ListOutput = ListFormat.TABLE,
) -> None:
    """List the mail platform's pending work, longest due first, then what waits for its next attempt."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.provision_pb2 import ListPendingProvisionsRequest

        request = ListPendingProvisionsRequest(include_waiting=not due)
        listed = list_rows(service.ListPendingProvisions, request, "provisions", PAGE_SIZE, limit)
    for row in listed:
        row["mailbox_state"] = None  # it has the hash of the password, which belongs on no terminal
    print_rows(listed, PROVISION_COLUMNS, output)


@provisions.command("confirm")
@with_settings("operator client")
def confirm_provision(*, settings: Settings, provision_id: ProvisionId, output: ListOutput = ListFormat.TABLE) -> None:
    """Confirm that the mail platform has completed a provision."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.provision_pb2 import ConfirmProvisionRequest

        provision = service.ConfirmProvision(ConfirmProvisionRequest(provision_id=provision_id))
    print_row(to_row(provision), output)


@provisions.command("fail")
@with_settings("operator client")
def fail_provision(
    *, settings: Settings, provision_id: ProvisionId, reason: Reason, output: ListOutput = ListFormat.TABLE
) -> None:
    """Report that the mail platform has failed to complete a provision, which is then retried."""
    with admin_service(settings) as service:
        from postroom.admin.v1alpha1.provision_pb2 import FailProvisionRequest

        provision = service.FailProvision(FailProvisionRequest(provision_id=provision_id, reason=reason))
    print_row(to_row(provision), output)
