"""An operator's client of the admin service."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from postroom.admin.v1alpha1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    domain_pb2,
    mailbox_pb2,
    payment_pb2,
    provision_pb2,
)
from postroomd.runtime.keys import issue_admin_key
from tests.rpc.service import Service

if TYPE_CHECKING:
    from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceAsyncStub

ADMIN_SERVICE: ServiceDescriptor = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
ADMIN_METHODS: Sequence[MethodDescriptor] = list(ADMIN_SERVICE.methods)
ADMIN_OVERRIDES = {"admin_address": "127.0.0.1:0"}

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A caller with an admin key: a stub whose calls carry its secret, and shorthands for frequent calls."""

    stub: "AdminServiceAsyncStub"
    name: str
    secret: str

    async def call(self, rpc: str, request: Message) -> Any:
        """Call an RPC by name."""
        return await getattr(self.stub, rpc)(request)

    async def payments(self) -> list[payment_pb2.Payment]:
        """List the pending payments."""
        return list((await self.stub.ListPendingPayments(payment_pb2.ListPendingPaymentsRequest())).payments)

    async def provisions(self) -> list[provision_pb2.Provision]:
        """List the provisions that are due."""
        return list((await self.stub.ListPendingProvisions(provision_pb2.ListPendingProvisionsRequest())).provisions)

    async def transitions(self, mailbox_id: str) -> list[mailbox_pb2.Transition]:
        """List the transitions of a mailbox."""
        request = mailbox_pb2.ListTransitionsRequest(mailbox_id=mailbox_id)
        return list((await self.stub.ListTransitions(request)).transitions)

    async def domain_transitions(self, domain_id: str) -> list[domain_pb2.DomainTransition]:
        """List the transitions of a domain."""
        request = domain_pb2.ListDomainTransitionsRequest(domain_id=domain_id)
        return list((await self.stub.ListDomainTransitions(request)).transitions)

    async def get_mailbox(self, mailbox_id: str) -> mailbox_pb2.Mailbox:
        """Get a mailbox."""
        return (await self.stub.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id))).mailbox


def admin_channel(service: Service, secret: str) -> grpc.aio.Channel:
    """A connection to the admin service whose calls carry a secret."""
    return service.channel((("x-auth-token", secret),), address=service.admin_address)


async def new_operator(service: Service, *, read_only: bool = False, expires_in: timedelta | None = None) -> Operator:
    """A caller with a new admin key."""
    name, now = f"operator{next(_numbers)}", datetime.now(UTC)
    expires_at = now + expires_in if expires_in is not None else None
    secret = await issue_admin_key(
        service.repository.admin_keys, name=name, read_only=read_only, expires_at=expires_at, now=now
    )
    stub = admin_service_pb2_grpc.AdminServiceStub(admin_channel(service, secret))
    return Operator(stub=stub, name=name, secret=secret)
