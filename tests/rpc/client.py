"""A tenant's client of the service, and the constants of its requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from postroom.v1alpha1 import alias_pb2, domain_pb2, forwarding_pb2, mailbox_pb2, mailbox_service_pb2
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceAsyncStub

SERVICE: ServiceDescriptor = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
METHODS: Sequence[MethodDescriptor] = SERVICE.methods
PASSWORD = "correct horse battery staple"
ABSENT_ID = "00000000-0000-4000-8000-000000000000"

Metadata = tuple[tuple[str, str], ...]
Options = tuple[tuple[str, int], ...]
LONG_DETAILS: Options = (("grpc.max_metadata_size", 2**20), ("grpc.absolute_max_metadata_size", 2**20))
"""Channel options of a client that accepts more details than fit into gRPC's default of 8 KiB."""
SHORT_DETAILS: Options = (("grpc.max_metadata_size", 8_192), ("grpc.absolute_max_metadata_size", 8_192))
"""Channel options of a client that always refuses more than 8 KiB, as Java does."""
ALL_DETAILS: Metadata = (("x-accept-details", "all"),)
"""The metadata with which it requests them."""

_numbers = count(1)


def fresh_name(label: str = "domain") -> str:
    """A domain name that no other test of this process uses."""
    return f"{label}{next(_numbers)}.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A caller with an API key: a stub whose calls carry its secret, and shorthands for frequent calls."""

    stub: "MailboxServiceAsyncStub"
    metadata: Metadata
    secret: str
    access_key: str
    organization_id: str
    project_id: str

    async def call(self, rpc: str, request: Message) -> Any:
        """Call an RPC by name."""
        return await getattr(self.stub, rpc)(request)

    async def domain(self, name: str | None = None, **fields: str) -> domain_pb2.Domain:
        """Create a domain."""
        return await self.stub.CreateDomain(domain_pb2.CreateDomainRequest(name=name or fresh_name(), **fields))

    async def ready_domain(self, name: str | None = None) -> domain_pb2.Domain:
        """Create a domain, and wait until it is ready."""
        domain = await self.domain(name)
        await self.validate(domain)
        return await self.wait_for_domain(domain.id, domain_pb2.Domain.READY)

    async def get_domain(self, domain: domain_pb2.Domain) -> domain_pb2.Domain:
        """Get a domain."""
        return await self.stub.GetDomain(domain_pb2.GetDomainRequest(domain_id=domain.id))

    async def records(self, domain: domain_pb2.Domain) -> domain_pb2.GetDomainRecordsResponse:
        """Get the DNS records of a domain."""
        return await self.stub.GetDomainRecords(domain_pb2.GetDomainRecordsRequest(domain_id=domain.id))

    async def validate(self, domain: domain_pb2.Domain) -> domain_pb2.ValidateDomainRecordsResponse:
        """Schedule the validation of a domain."""
        return await self.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id))

    async def delete_domain(self, domain: domain_pb2.Domain, *, force: bool = True) -> domain_pb2.Domain:
        """Delete a domain, by default with its mailboxes."""
        return await self.stub.DeleteDomain(domain_pb2.DeleteDomainRequest(domain_id=domain.id, force=force))

    async def wait_for_domain(self, domain_id: str, status: "domain_pb2.Domain.Status.ValueType") -> domain_pb2.Domain:
        """Return the domain as soon as it has the status."""

        async def with_status() -> domain_pb2.Domain | None:
            domain = await self.stub.GetDomain(domain_pb2.GetDomainRequest(domain_id=domain_id))
            return domain if domain.status == status else None

        return await wait_until(with_status)

    async def mailboxes(
        self, domain: domain_pb2.Domain, *local_parts: str, password: str = PASSWORD
    ) -> list[mailbox_pb2.Mailbox]:
        """Create mailboxes in a domain."""
        created = await self.stub.BatchCreateMailboxes(batch_request(domain.id, *local_parts, password=password))
        return list(created.mailboxes)

    async def mailbox(self, domain: domain_pb2.Domain, local_part: str) -> mailbox_pb2.Mailbox:
        """Create a mailbox in a domain."""
        (mailbox,) = await self.mailboxes(domain, local_part)
        return mailbox

    async def get_mailbox(self, mailbox: mailbox_pb2.Mailbox) -> mailbox_pb2.Mailbox:
        """Get a mailbox."""
        return await self.stub.GetMailbox(mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox.id))

    async def delete_mailbox(self, mailbox: mailbox_pb2.Mailbox) -> mailbox_pb2.Mailbox:
        """Delete a mailbox."""
        return await self.stub.DeleteMailbox(mailbox_pb2.DeleteMailboxRequest(mailbox_id=mailbox.id))

    async def restore_mailbox(self, mailbox: mailbox_pb2.Mailbox) -> mailbox_pb2.Mailbox:
        """Restore a mailbox."""
        return await self.stub.RestoreMailbox(mailbox_pb2.RestoreMailboxRequest(mailbox_id=mailbox.id))

    async def alias(self, mailbox: mailbox_pb2.Mailbox, local_part: str) -> alias_pb2.Alias:
        """Create an alias of a mailbox."""
        return await self.stub.CreateAlias(alias_pb2.CreateAliasRequest(mailbox_id=mailbox.id, local_part=local_part))

    async def get_alias(self, alias: alias_pb2.Alias) -> alias_pb2.Alias:
        """Get an alias."""
        return await self.stub.GetAlias(alias_pb2.GetAliasRequest(alias_id=alias.id))

    async def forwarding(self, mailbox: mailbox_pb2.Mailbox, email: str) -> forwarding_pb2.Forwarding:
        """Create a forwarding of a mailbox."""
        request = forwarding_pb2.CreateForwardingRequest(mailbox_id=mailbox.id, email=email)
        return await self.stub.CreateForwarding(request)

    async def get_forwarding(self, forwarding: forwarding_pb2.Forwarding) -> forwarding_pb2.Forwarding:
        """Get a forwarding."""
        return await self.stub.GetForwarding(forwarding_pb2.GetForwardingRequest(forwarding_id=forwarding.id))

    async def forwarding_settings(self, mailbox: mailbox_pb2.Mailbox) -> forwarding_pb2.MailboxForwarding:
        """Get the settings of a mailbox's forwardings."""
        return await self.stub.GetMailboxForwarding(forwarding_pb2.GetMailboxForwardingRequest(mailbox_id=mailbox.id))

    async def change_forwarding_settings(
        self, mailbox: mailbox_pb2.Mailbox, **fields: Any
    ) -> forwarding_pb2.MailboxForwarding:
        """Change the settings of a mailbox's forwardings."""
        request = forwarding_pb2.UpdateMailboxForwardingRequest(mailbox_id=mailbox.id, **fields)
        return await self.stub.UpdateMailboxForwarding(request)


def batch_request(
    domain_id: str, *local_parts: str, password: str = PASSWORD
) -> mailbox_pb2.BatchCreateMailboxesRequest:
    """A request for mailboxes with the same password."""
    item = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters
    return mailbox_pb2.BatchCreateMailboxesRequest(
        domain_id=domain_id, mailboxes=[item(local_part=name, password=password) for name in local_parts]
    )
