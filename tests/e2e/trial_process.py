"""A Postroom whose time a test moves on, seen by its tenant through the SDK and by its operator over gRPC."""

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

if TYPE_CHECKING:
    from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceStub

PASSWORD = "correct horse battery staple"
FLAGS = ("--clock=127.0.0.1:0", "--admin-address=127.0.0.1:0", "--argon2-memory-kib=8", "--argon2-time-cost=1")
ADMIN_KEY = "trial"


@dataclass(frozen=True)
class Trial:
    """A running Postroom with a clock, its tenant's client and its operator's."""

    up: Up
    api: MailboxV1Alpha1API
    admin: "AdminServiceStub"

    def now(self) -> datetime:
        """The time."""
        return self._clock("/now", None)

    def advance(self, duration: str) -> datetime:
        """Move the time on by an ISO 8601 duration; answers the time once all is done that fell due."""
        return self._clock("/advance", json.dumps({"duration": duration}).encode())

    def _clock(self, path: str, body: bytes | None) -> datetime:
        url = f"http://{address_of(self.up, 'clock')}{path}"
        with urllib.request.urlopen(url, body, timeout=START_SECONDS) as answer:
            return datetime.fromisoformat(json.load(answer)["now"])

    def ready_domain(self, name: str = "example.org") -> Domain:
        """A new domain, once the SDK's waiter has seen it ready."""
        return self.validated(self.api.create_domain(name=name))

    def validated(self, domain: Domain) -> Domain:
        """A domain, once the SDK's waiter has seen it ready."""
        self.api.validate_domain_records(domain_id=domain.id)
        domain = self.api.wait_for_domain(domain_id=domain.id)
        assert domain.status == "ready"
        return domain

    def mailbox(self, domain: Domain, local_part: str = "ann", **arguments: Any) -> Mailbox:
        """A new mailbox."""
        sent = BatchCreateMailboxesRequestMailboxParameters(local_part=local_part, password=PASSWORD)
        period = MailboxSubscriptionPeriod.MONTHLY
        request = {"domain_id": domain.id, "mailboxes": [sent], "subscription_period": period} | arguments
        return self.api.batch_create_mailboxes(**request).mailboxes[0]

    def status(self, mailbox: Mailbox) -> str:
        """Where a mailbox stands."""
        return str(self.api.get_mailbox(mailbox_id=mailbox.id).status)

    def payments(self) -> list[payment_pb2.Payment]:
        """What is owed."""
        return list(self.admin.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest()).payments)

    def confirm_payment(self) -> payment_pb2.Payment:
        """Confirm the one payment that is open."""
        (payment,) = self.payments()
        return self.admin.ConfirmPayment(payment_pb2.ConfirmPaymentRequest(payment_id=payment.id))

    def provisions(self) -> list[provision_pb2.Provision]:
        """What the mail platform is to do."""
        return list(self.admin.ListPendingProvisions(provision_pb2.ListPendingProvisionsRequest()).provisions)

    def confirm_provision(self, kind: str, address: str) -> provision_pb2.Provision:
        """Confirm the one provision there is, which must be of this kind and about this address."""
        (provision,) = self.provisions()
        assert (provision_pb2.Provision.Kind.Name(provision.kind), provision.address) == (kind, address)
        return self.admin.ConfirmProvision(provision_pb2.ConfirmProvisionRequest(provision_id=provision.id))

    def found(self, mailbox_id: str) -> mailbox_pb2.GetMailboxResponse:
        """A mailbox as its operator sees it, or what is left of it."""
        return self.admin.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id))

    def history(self, address: str) -> list[dict[str, Any]]:
        """What became of the mailboxes with an address, by the command line."""
        ended = run("history", address, "--output=json", f"--database-url={database_url(self.up.directory)}")
        assert ended.returncode == 0, ended.stderr
        listed: list[dict[str, Any]] = json.loads(ended.stdout)
        return listed


def address_of(up: Up, what: str) -> str:
    """HOST:PORT of what else `up` says it listens on: `clock`, or `admin service`."""
    (address,) = re.findall(rf"# The {what} listens on (\S+)", up.output)
    return str(address)


def new_admin_key(up: Up, name: str, *flags: str) -> str:
    """The secret of a new admin key."""
    database = f"--database-url={database_url(up.directory)}"
    ended = run("admin-keys", "create", f"--name={name}", "--output=json", database, *flags)
    assert ended.returncode == 0, ended.stderr
    return str(json.loads(ended.stdout)["secret"])


def admin_code(address: str, secret: str) -> grpc.StatusCode:
    """How a call to the admin service, over a connection of its own, ends."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        listing = admin_grpc.AdminServiceStub(channel).ListPendingPayments
        metadata = (("x-auth-token", secret),)
        try:
            listing(payment_pb2.ListPendingPaymentsRequest(), metadata=metadata, timeout=START_SECONDS)
        except grpc.RpcError as error:
            return cast("grpc.Call", error).code()
    return grpc.StatusCode.OK


@contextmanager
def trial_of(up: Up) -> Iterator[Trial]:
    """A trial with a Postroom that was started with FLAGS."""
    with patch.dict(os.environ, clean_environment(**up.environment), clear=True):
        api = MailboxV1Alpha1API(scaleway.Client.from_env())
    secret = new_admin_key(up, ADMIN_KEY)
    with grpc.insecure_channel(address_of(up, "admin service")) as channel:
        yield Trial(up, api, admin_grpc.AdminServiceStub(grpc.intercept_channel(channel, _WithSecret(secret))))


class _WithSecret(grpc.UnaryUnaryClientInterceptor):
    """Sends the secret, and a deadline, with every call."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        sent = client_call_details._replace(metadata=[("x-auth-token", self._secret)], timeout=START_SECONDS)
        return continuation(sent, request)
