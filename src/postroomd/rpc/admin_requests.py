"""What requests of the operator have in common: pages, and the mailbox or the domain that they name."""

from postroom.admin.v1alpha1 import dkim_pb2, domain_pb2, mailbox_pb2
from postroomd.domain.addresses import Address, canonical_local_part
from postroomd.domain.domain_names import canonical_domain_name
from postroomd.domain.errors import Reason
from postroomd.domain.validation import Checker

MAX_PAGE_SIZE = 1_000


def check_mailbox(
    check: Checker,
    request: mailbox_pb2.LockMailboxRequest | mailbox_pb2.UnlockMailboxRequest | mailbox_pb2.ListTransitionsRequest,
) -> str:
    """Return the id or the canonical address of the mailbox that a request names."""
    if request.mailbox_id and request.address:
        check.refuse("address", Reason.CONSTRAINT, "must not be set together with mailbox_id")
    if not request.address:
        return check.uuid("mailbox_id", request.mailbox_id)
    return check.canonical("address", request.address, _canonical_address)


def check_domain(
    check: Checker,
    request: domain_pb2.ListDomainTransitionsRequest
    | dkim_pb2.GetDkimKeysRequest
    | dkim_pb2.RotateDkimKeyRequest
    | dkim_pb2.CancelDkimRotationRequest,
) -> str:
    """Return the id or the canonical name of the domain that a request names."""
    if request.domain_id and request.name:
        check.refuse("name", Reason.CONSTRAINT, "must not be set together with domain_id")
    if not request.name:
        return check.uuid("domain_id", request.domain_id)
    return check.canonical("name", request.name, canonical_domain_name)


def refuse_page_token(check: Checker) -> None:
    """Refuse a token that no response of the list had."""
    check.refuse("page_token", Reason.FORMAT, "must be the next_page_token of a response of this list")


def _canonical_address(text: str) -> str:
    """Return an address in its stored form. Raises ValueError."""
    sent = Address.parse(text)
    return str(Address(canonical_local_part(sent.local_part), canonical_domain_name(sent.domain_name)))
