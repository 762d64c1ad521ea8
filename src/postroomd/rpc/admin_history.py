"""The RPCs of the admin service that list the status history of mailboxes and domains, purged ones included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from postroom.admin.v1alpha1 import domain_pb2, mailbox_pb2
from postroomd.domain.context import CallContext
from postroomd.domain.history import DomainTransition, Transition
from postroomd.domain.queries import Slice
from postroomd.domain.validation import Checker, checking, is_uuid
from postroomd.rpc import admin_convert as convert
from postroomd.rpc.admin_requests import MAX_PAGE_SIZE, check_domain, check_mailbox, refuse_page_token
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.administration import Administration

MAX_REVISION = 2**31 - 1

Item = TypeVar("Item", Transition, DomainTransition)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminHistoryServicer:
    """The RPCs of the history."""

    administration: Administration

    async def ListTransitions(
        self, request: mailbox_pb2.ListTransitionsRequest, context: CallContext
    ) -> Slice[Transition]:
        """List the transitions of a mailbox, or of those with an address."""
        with checking() as check:
            subject = check_mailbox(check, request)
            limit = check.limit(request.page_size, MAX_PAGE_SIZE)
            after = _position(check, request.mailbox_id, request.page_token)
        if is_uuid(subject):
            found = await self.administration.transitions(subject, after[1], limit + 1)
        else:
            found = await self.administration.transitions_with_address(subject, after, limit + 1)
        return _slice(found, limit, [f"{each.mailbox_id}/{each.revision}" for each in found])

    async def ListDomainTransitions(
        self, request: domain_pb2.ListDomainTransitionsRequest, context: CallContext
    ) -> Slice[DomainTransition]:
        """List the transitions of a domain, or of those with a name."""
        with checking() as check:
            subject = check_domain(check, request)
            limit = check.limit(request.page_size, MAX_PAGE_SIZE)
            after = _position(check, request.domain_id, request.page_token)
        if is_uuid(subject):
            found = await self.administration.domain_transitions(subject, after[1], limit + 1)
        else:
            found = await self.administration.domain_transitions_with_name(subject, after, limit + 1)
        return _slice(found, limit, [f"{each.domain_id}/{each.revision}" for each in found])

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "ListTransitions": Rpc(self.ListTransitions, convert.transitions_message),
            "ListDomainTransitions": Rpc(self.ListDomainTransitions, convert.domain_transitions_message),
        }


def _slice(found: Sequence[Item], limit: int, tokens: Sequence[str]) -> Slice[Item]:
    """Return a page of up to `limit` transitions, of which one more was read if there is another page."""
    return Slice(found[:limit], tokens[limit - 1] if len(found) > limit else "")


def _position(check: Checker, subject_id: str, token: str) -> tuple[str, int]:
    """Return the id and the revision after which a list continues: "" and 0 without a token.

    A token of another id's list is refused.
    """
    if not token:
        return "", 0
    identifier, _, revision = token.partition("/")
    # The length is checked first: int() rejects thousands of digits with another error.
    decimal = revision.isascii() and revision.isdecimal() and len(revision) <= len(str(MAX_REVISION))
    if is_uuid(identifier) and decimal and int(revision) <= MAX_REVISION and subject_id.lower() in {"", identifier}:
        return identifier, int(revision)
    refuse_page_token(check)
    return "", 0
