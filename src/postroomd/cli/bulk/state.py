"""The present state of a tenant's domains, as import, plan and apply compare it with a file."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from postroomd.cli.messages import pages, to_row
from postroomd.cli.resolve import PAGE_SIZE, SMALL_PAGE_SIZE

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

GONE = "deleting"


@dataclass(slots=True)
class PresentMailbox:
    """A mailbox with its aliases and forwardings, as rows of messages: by local part, and by destination."""

    row: dict[str, Any]
    aliases: dict[str, dict[str, Any]] = field(default_factory=dict)
    forwardings: dict[str, dict[str, Any]] = field(default_factory=dict)
    forwarding_settings: dict[str, bool] = field(default_factory=dict)
    """keep_copy and enabled, where they are read."""

    @property
    def local_part(self) -> str:
        """The part before the `@`."""
        return str(self.row["email"]).rpartition("@")[0]


@dataclass(slots=True)
class PresentDomain:
    """A domain with its mailboxes by local part."""

    row: dict[str, Any]
    mailboxes: dict[str, PresentMailbox] = field(default_factory=dict)


def read_state(
    service: "MailboxServiceStub", names: Iterable[str] | None = None, *, aliases: bool, forwardings: bool
) -> dict[str, PresentDomain]:
    """Return the domains with these names, by default all, by name; without those that are being deleted."""
    from postroom.v1alpha1 import alias_pb2, domain_pb2, forwarding_pb2, mailbox_pb2

    wanted = None if names is None else set(names)
    request = domain_pb2.ListDomainsRequest(order_by=domain_pb2.ListDomainsRequest.OrderBy.NAME_ASC)
    state = {
        domain.name: PresentDomain(to_row(domain))
        for domain in pages(service.ListDomains, request, "domains", PAGE_SIZE)
        if wanted is None or domain.name in wanted
    }
    state = {name: domain for name, domain in state.items() if domain.row["status"] != GONE}
    by_id: dict[str, PresentMailbox] = {}
    for domain in state.values():
        of_domain = mailbox_pb2.ListMailboxesRequest(
            domain_id=domain.row["id"], order_by=mailbox_pb2.ListMailboxesRequest.OrderBy.EMAIL_ASC
        )
        for mailbox in pages(service.ListMailboxes, of_domain, "mailboxes", PAGE_SIZE):
            present = by_id[mailbox.id] = PresentMailbox(to_row(mailbox))
            domain.mailboxes[present.local_part] = present
    if aliases and by_id:
        of_all = alias_pb2.ListAliasesRequest(order_by=alias_pb2.ListAliasesRequest.OrderBy.NAME_ASC)
        for alias in pages(service.ListAliases, of_all, "aliases", SMALL_PAGE_SIZE):
            if alias.mailbox_id in by_id and to_row(alias)["status"] != GONE:
                by_id[alias.mailbox_id].aliases[alias.email.rpartition("@")[0]] = to_row(alias)
    if forwardings and by_id:
        every = forwarding_pb2.ListForwardingsRequest(order_by=forwarding_pb2.ListForwardingsRequest.OrderBy.EMAIL_ASC)
        for forwarding in pages(service.ListForwardings, every, "forwardings", SMALL_PAGE_SIZE):
            if forwarding.mailbox_id in by_id and to_row(forwarding)["status"] != GONE:
                by_id[forwarding.mailbox_id].forwardings[forwarding.email] = to_row(forwarding)
    return state
