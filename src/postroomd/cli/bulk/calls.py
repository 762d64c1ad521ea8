"""Calls that create many resources: repeatable, and patient with a busy service."""

import hashlib
import hmac
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from postroomd.cli.connection import TENANT_SECRET

if TYPE_CHECKING:
    from postroom.client import ErrorDetails
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

Result = TypeVar("Result")

MAX_ATTEMPTS = 10
MAX_PAUSE_SECONDS = 15.0
NO_MORE_RESPONSES = frozenset({"idempotency_keys", "idempotency_octets"})
"""Quotas of stored responses: beyond them a call is made without an idempotency key."""


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """One mailbox to create. Exactly one of password and password hash is set."""

    local_part: str
    password: str = field(default="", repr=False)
    password_hash: str = field(default="", repr=False)


class CallFailed(Exception):
    """A call has failed, and repeating it does not help."""

    def __init__(self, details: "ErrorDetails") -> None:
        super().__init__(details.message)
        self.details = details


def patiently(call: Callable[[], Result]) -> Result:
    """Return the result of a call, which is repeated while the service asks for it. Raises CallFailed."""
    import grpc

    from postroom.client import decode_error

    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return call()
        except grpc.RpcError as error:
            details = decode_error(error)
            if details.retry_after is None or attempt == MAX_ATTEMPTS:
                raise CallFailed(details) from error
            time.sleep(min(max(details.retry_after.total_seconds(), 0.1 * 2**attempt), MAX_PAUSE_SECONDS))
    raise AssertionError("unreachable")


def create_mailboxes(
    service: "MailboxServiceStub", domain_id: str, period: str, batch: Sequence[NewMailbox]
) -> Sequence[Any]:
    """Create up to 100 mailboxes of one domain and return them in order. Raises CallFailed.

    The idempotency key is derived from the content, so that a repetition of an interrupted import that lost the
    response gets it. If those mailboxes have been purged since, they are created again, under another key.
    """
    from postroom.v1alpha1 import mailbox_pb2 as pb

    request = pb.BatchCreateMailboxesRequest(
        domain_id=domain_id,
        mailboxes=[
            pb.BatchCreateMailboxesRequest.MailboxParameters(
                local_part=each.local_part, password=each.password, password_hash=each.password_hash
            )
            for each in batch
        ],
        subscription_period=pb.Mailbox.SubscriptionPeriod.Value(period.upper()),
    )
    key: str | None = content_key("BatchCreateMailboxes", request.SerializeToString(deterministic=True).hex())
    while True:
        try:
            response, replayed = patiently(lambda key=key: _create(service, request, key))  # type: ignore[misc]
        except CallFailed as failure:
            if key is not None and failure.details.metadata.get("resource") in NO_MORE_RESPONSES:
                key = None
                continue
            raise
        if not replayed or _exists(service, response.mailboxes):
            return list(response.mailboxes)
        key = str(uuid.uuid4())


def content_key(*parts: object) -> str:
    """Return the idempotency key of a call with this content.

    It is made with the API key's secret, so that nobody who sees it can test guesses of a password against it.
    """
    content = json.dumps(parts, sort_keys=True).encode()
    return hmac.new(os.environ.get(TENANT_SECRET, "").encode(), content, hashlib.sha256).hexdigest()


def _create(service: "MailboxServiceStub", request: Any, key: str | None) -> tuple[Any, bool]:
    metadata: tuple[tuple[str, str | bytes], ...] = (("x-accept-details", "all"),)
    if key:
        metadata += (("idempotency-key", key),)
    response, call = service.BatchCreateMailboxes.with_call(request, metadata=metadata)
    trailing = dict(call.trailing_metadata() or ())
    return response, trailing.get("idempotency-replayed") == "true"


def _exists(service: "MailboxServiceStub", mailboxes: Sequence[Any]) -> bool:
    """Whether the mailboxes of a response that was replayed still exist."""
    from postroom.v1alpha1.mailbox_pb2 import GetMailboxRequest

    try:
        for mailbox in mailboxes:
            patiently(lambda each=mailbox: service.GetMailbox(GetMailboxRequest(mailbox_id=each.id)))  # type: ignore[misc]
    except CallFailed as failure:
        if failure.details.code.name == "NOT_FOUND":
            return False
        raise
    return True


def create_alias(service: "MailboxServiceStub", mailbox_id: str, local_part: str, description: str = "") -> None:
    """Create an alias, unless the mailbox has it already; one without a local part is a catch-all. Raises CallFailed.

    Without an idempotency key: each would use up one of the organization's stored responses.
    """
    from postroom.v1alpha1 import alias_pb2 as pb

    request = pb.CreateAliasRequest(
        mailbox_id=mailbox_id, local_part=local_part, description=description, catch_all=not local_part
    )

    def has_it() -> bool:
        listed = service.ListAliases(pb.ListAliasesRequest(mailbox_id=mailbox_id, page_size=100)).aliases
        return any(alias.email.startswith(f"{local_part}@") for alias in listed)

    _create_unless(lambda: service.CreateAlias(request), has_it)


def create_forwarding(service: "MailboxServiceStub", mailbox_id: str, destination: str) -> None:
    """Create a forwarding, unless the mailbox has it already. Raises CallFailed."""
    from postroom.v1alpha1 import forwarding_pb2 as pb

    request = pb.CreateForwardingRequest(mailbox_id=mailbox_id, email=destination)

    def has_it() -> bool:
        listed = service.ListForwardings(pb.ListForwardingsRequest(mailbox_id=mailbox_id, page_size=100)).forwardings
        return any(forwarding.email.lower() == destination.lower() for forwarding in listed)

    _create_unless(lambda: service.CreateForwarding(request), has_it)


def _create_unless(create: Callable[[], Any], exists: Callable[[], bool]) -> None:
    try:
        patiently(create)
    except CallFailed as failure:
        if failure.details.code.name == "ALREADY_EXISTS" and patiently(exists):
            return  # an attempt whose response was lost
        raise
