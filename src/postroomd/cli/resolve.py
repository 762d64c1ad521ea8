"""Resources named on the command line: by id, by address or by name."""

import re
from typing import TYPE_CHECKING, Any

from postroomd.cli.arguments import argument
from postroomd.cli.errors import CommandFailed
from postroomd.cli.messages import pages
from postroomd.domain.addresses import Address, canonical_local_part
from postroomd.settings import InvalidSetting

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

PAGE_SIZE = 1_000  # domains and mailboxes
SMALL_PAGE_SIZE = 100  # aliases and forwardings
SEE_DOMAINS = "`postroom domains list` prints what the key can see"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def is_id(text: str) -> bool:
    """Whether a text is an id, and not an address or a name."""
    return _UUID.fullmatch(text) is not None


def domain_name(argument: str, text: str) -> str:
    """Return a domain's name in its stored form. Raises InvalidSetting, which names the argument."""
    from postroomd.domain.domain_names import canonical_domain_name  # slow to import

    try:
        return canonical_domain_name(text)
    except ValueError as error:
        raise InvalidSetting(f"{argument}: {error}") from error


def parse_address(argument: str, text: str) -> Address:
    """Return an address in its stored form. Raises InvalidSetting, which names the argument."""
    try:
        sent = Address.parse(text)
        return Address(canonical_local_part(sent.local_part), domain_name(argument, sent.domain_name))
    except ValueError as error:
        raise error if isinstance(error, InvalidSetting) else InvalidSetting(f"{argument}: {error}") from error


def domain_id(service: "MailboxServiceStub", text: str) -> str:
    """Return the id of a domain, which is given by id or name. Raises CommandFailed if there is none."""
    return text if is_id(text) else str(find_domain(service, domain_name(argument("domain_id"), text)).id)


def find_domain(service: "MailboxServiceStub", name: str, address: str = "") -> Any:
    """Return a domain by its name, which may be that of an address. Raises CommandFailed."""
    found = _domain_or_none(service, name)
    if found is None:
        subject = f"{address}: domain {name}" if address else name
        raise CommandFailed(f"{argument('domain_id')}: {subject} not found: {SEE_DOMAINS}")
    return found


def _domain_or_none(service: "MailboxServiceStub", name: str) -> Any:
    from postroom.v1alpha1.domain_pb2 import ListDomainsRequest

    found = pages(service.ListDomains, ListDomainsRequest(search=name), "domains", PAGE_SIZE)
    return next((domain for domain in found if domain.name == name), None)


def mailbox_id(service: "MailboxServiceStub", text: str) -> str:
    """Return the id of a mailbox, which is given by id or address. Raises CommandFailed if there is none."""
    if is_id(text):
        return text
    from postroom.v1alpha1.mailbox_pb2 import ListMailboxesRequest

    written = argument("mailbox_id")
    address = parse_address(written, text)
    for mailbox in pages(service.ListMailboxes, ListMailboxesRequest(search=str(address)), "mailboxes", PAGE_SIZE):
        if mailbox.email == str(address):
            return str(mailbox.id)
    if _domain_or_none(service, address.domain_name) is None:
        raise CommandFailed(f"{written}: {address}: domain {address.domain_name} not found: {SEE_DOMAINS}")
    raise CommandFailed(f"{written}: {address} not found: `postroom mailboxes search` prints what the key can see")


def alias_id(service: "MailboxServiceStub", text: str, mailbox: str | None) -> str:
    """Return the id of an alias, which is given by id or address. Raises CommandFailed if there is none.

    Aliases have no search: without their mailbox, the list is read until the address is found.
    """
    if is_id(text):
        return text
    from postroom.v1alpha1.alias_pb2 import ListAliasesRequest

    address = f"@{domain_name('ALIAS', text[1:])}" if text.startswith("@") else str(parse_address("ALIAS", text))
    request = ListAliasesRequest(
        mailbox_id=mailbox_id(service, mailbox) if mailbox else "", order_by=ListAliasesRequest.OrderBy.NAME_ASC
    )
    for alias in pages(service.ListAliases, request, "aliases", SMALL_PAGE_SIZE):
        if alias.email == address:
            return str(alias.id)
    raise CommandFailed(f"ALIAS: {address} not found: `postroom aliases list` prints what the key can see")


def forwarding_id(service: "MailboxServiceStub", text: str, mailbox: str | None) -> str:
    """Return the id of a forwarding, which is given by id, or by destination and mailbox. Raises CommandFailed."""
    if is_id(text):
        return text
    if not mailbox:
        raise InvalidSetting("--mailbox: set it, or give the id of the forwarding: several may have one destination")
    from postroom.v1alpha1.forwarding_pb2 import ListForwardingsRequest

    request = ListForwardingsRequest(mailbox_id=mailbox_id(service, mailbox))
    for forwarding in pages(service.ListForwardings, request, "forwardings", SMALL_PAGE_SIZE):
        if forwarding.email.lower() == text.lower():
            return str(forwarding.id)
    raise CommandFailed(f"FORWARDING: {mailbox} has no forwarding to {text}")
