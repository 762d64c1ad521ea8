"""A Postroom with a trial clock, used by its tenant through the SDK and by its operator through the admin service."""

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import grpc
import scaleway
from scaleway.mailbox.v1alpha1 import (
    BatchCreateMailboxesRequestMailboxParameters,
    Domain,
    Mailbox,
    MailboxSubscriptionPeriod,
    MailboxV1Alpha1API,
)

from postroom.admin.v1alpha1 import admin_service_pb2_grpc as admin_grpc
from postroom.admin.v1alpha1 import mailbox_pb2, payment_pb2, provision_pb2
from tests.e2e.support import START_SECONDS, Up, clean_environment, database_url, run
from tests.support.waiting import block_until

if TYPE_CHECKING:
    from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceStub

PASSWORD = "correct horse battery staple"
FLAGS = ("--clock=127.0.0.1:0", "--admin-address=127.0.0.1:0", "--argon2-memory-kib=8", "--argon2-time-cost=1")
ADMIN_KEY = "trial"


@dataclass(frozen=True)
class Trial:
    """A running Postroom with a trial clock, a tenant's client and an operator's client."""

    up: Up
    api: MailboxV1Alpha1API
    admin: "AdminServiceStub"
    admin_secret: str

    def now(self) -> datetime:
        """Return the time."""
        return self._request_clock("/now", None)

    def advance(self, duration: str) -> datetime:
        """Advance the time by an ISO 8601 duration; returns the time once the worker has caught up."""
        return self._request_clock("/advance", json.dumps({"duration": duration}).encode())

    def advance_to(self, instant: datetime) -> datetime:
        """Advance the time to an instant; returns the time once the worker has caught up."""
        return self._request_clock("/advance", json.dumps({"to": instant.isoformat()}).encode())

    def _request_clock(self, path: str, body: bytes | None) -> datetime:
        url = f"http://{address_of(self.up, 'clock')}{path}"
        with urllib.request.urlopen(url, body, timeout=START_SECONDS) as response:
            return datetime.fromisoformat(json.load(response)["now"])

    def ready_domain(self, name: str = "example.org") -> Domain:
        """Create a domain, and wait until it is ready."""
        return self.validate(self.api.create_domain(name=name))

    def validate(self, domain: Domain) -> Domain:
        """Validate a domain, and wait until it is ready. The SDK's own waiting begins with a second of sleep."""
        self.api.validate_domain_records(domain_id=domain.id)

        def ready() -> Domain | None:
            validated = self.api.get_domain(domain_id=domain.id)
            return validated if validated.status == "ready" else None

        return block_until(ready)

    def create_mailbox(self, domain: Domain, local_part: str = "ann", **arguments: Any) -> Mailbox:
        """Create a mailbox, by default with a monthly subscription."""
        sent = BatchCreateMailboxesRequestMailboxParameters(local_part=local_part, password=PASSWORD)
        period = MailboxSubscriptionPeriod.MONTHLY
        request = {"domain_id": domain.id, "mailboxes": [sent], "subscription_period": period} | arguments
        return self.api.batch_create_mailboxes(**request).mailboxes[0]

    def status(self, mailbox: Mailbox) -> str:
        """Return the current status of a mailbox."""
        return str(self.api.get_mailbox(mailbox_id=mailbox.id).status)

    def pending_payments(self) -> list[payment_pb2.Payment]:
        """Return the pending payments."""
        return list(self.admin.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest()).payments)

    def confirm_payment(self) -> payment_pb2.Payment:
        """Confirm the only pending payment."""
        (payment,) = self.pending_payments()
        return self.admin.ConfirmPayment(payment_pb2.ConfirmPaymentRequest(payment_id=payment.id))

    def pending_provisions(self) -> list[provision_pb2.Provision]:
        """Return the provisions that await the mail platform."""
        return list(self.admin.ListPendingProvisions(provision_pb2.ListPendingProvisionsRequest()).provisions)

    def confirm_provision(self, kind: str, address: str) -> provision_pb2.Provision:
        """Confirm the only pending provision, which must have this kind and address."""
        (provision,) = self.pending_provisions()
        assert (provision_pb2.Provision.Kind.Name(provision.kind), provision.address) == (kind, address)
        return self.admin.ConfirmProvision(provision_pb2.ConfirmProvisionRequest(provision_id=provision.id))

    def admin_mailbox(self, mailbox_id: str) -> mailbox_pb2.GetMailboxResponse:
        """Return a mailbox, or its tombstone, from the admin service."""
        return self.admin.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id))

    def history(self, address: str) -> list[dict[str, Any]]:
        """Return the status transitions of the mailboxes with an address, from the command line."""
        flags = ("--output=json", f"--admin-address={address_of(self.up, 'admin service')}")
        completed = run("history", address, *flags, POSTROOM_ADMIN_SECRET=self.admin_secret)
        assert completed.returncode == 0, completed.stderr
        transitions: list[dict[str, Any]] = json.loads(completed.stdout)
        return transitions


def address_of(up: Up, server: str) -> str:
    """Return the HOST:PORT that `up` prints for a server: `clock` or `admin service`."""
    (address,) = re.findall(rf"# The {server} listens on (\S+)", up.output)
    return str(address)


def new_admin_key(up: Up, name: str, *flags: str) -> str:
    """Create an admin key; returns its secret."""
    database = f"--database-url={database_url(up.directory)}"
    completed = run("admin-keys", "create", f"--name={name}", "--output=json", database, *flags)
    assert completed.returncode == 0, completed.stderr
    return str(json.loads(completed.stdout)["secret"])


def admin_code(address: str, secret: str) -> grpc.StatusCode:
    """Return the status code of a call to the admin service over a new connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        list_payments = admin_grpc.AdminServiceStub(channel).ListPendingPayments
        metadata = (("x-auth-token", secret),)
        try:
            list_payments(payment_pb2.ListPendingPaymentsRequest(), metadata=metadata, timeout=START_SECONDS)
        except grpc.RpcError as error:
            return cast("grpc.Call", error).code()
    return grpc.StatusCode.OK


@contextmanager
def trial_of(up: Up) -> Iterator[Trial]:
    """Return a trial of a Postroom that was started with FLAGS."""
    with patch.dict(os.environ, clean_environment(**up.environment), clear=True):
        api = MailboxV1Alpha1API(scaleway.Client.from_env())
    secret = new_admin_key(up, ADMIN_KEY)
    with grpc.insecure_channel(address_of(up, "admin service")) as channel:
        stub = admin_grpc.AdminServiceStub(grpc.intercept_channel(channel, _Authenticated(secret)))
        yield Trial(up, api, stub, secret)


class _Authenticated(grpc.UnaryUnaryClientInterceptor):
    """Adds the secret and a timeout to every call."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        sent = client_call_details._replace(metadata=[("x-auth-token", self._secret)], timeout=START_SECONDS)
        return continuation(sent, request)
