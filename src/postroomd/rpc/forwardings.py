"""The RPCs about forwardings and their settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

from postroom.v1alpha1 import forwarding_pb2 as pb
from postroomd.domain import forwardings as rules
from postroomd.domain.context import CallContext
from postroomd.domain.destinations import canonical_destination
from postroomd.domain.errors import Reason
from postroomd.domain.model import Forwarding, MailboxForwarding
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.queries import ForwardingQuery
from postroomd.domain.validation import check_id, checking
from postroomd.rpc import convert, page_tokens
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.forwardings import Forwardings

MAX_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingServicer:
    """The RPCs about forwardings and their settings."""

    forwardings: Forwardings
    policy: LifecyclePolicy
    clock: Callable[[], datetime]

    async def CreateForwarding(self, request: pb.CreateForwardingRequest, context: CallContext) -> Forwarding:
        """Create a forwarding of a mailbox."""
        with checking() as check:
            mailbox_id = check.uuid("mailbox_id", request.mailbox_id)
            destination = check.canonical("email", request.email, canonical_destination)
        make = partial(
            rules.new_forwarding,
            forwarding_id=str(uuid4()),
            destination=destination,
            policy=self.policy,
            now=self.clock(),
        )
        return await self.forwardings.create(context, mailbox_id, destination, make)

    async def ListForwardings(
        self, request: pb.ListForwardingsRequest, context: CallContext
    ) -> page_tokens.ListResult[Forwarding]:
        """List forwardings."""
        with checking() as check:
            page, page_size = check.page(request.page, request.page_size, MAX_PAGE_SIZE)
            query = ForwardingQuery(
                ordering=convert.ordering(check, request.order_by, convert.FORWARDING_ORDERINGS),
                page=page,
                page_size=page_size,
                mailbox_id=check.optional_uuid("mailbox_id", request.mailbox_id),
                project_id=check.optional_uuid("project_id", request.project_id),
                organization_id=check.optional_uuid("organization_id", request.organization_id),
                status=convert.optional_member(check, "status", request.status, convert.FORWARDING_STATUSES),
            )
            if query.project_id and query.organization_id and not check.violations:
                check.refuse("organization_id", Reason.CONSTRAINT, "must not be set together with project_id")
            query = page_tokens.with_page_token(check, request, context.scope, query)
        return page_tokens.list_result(await self.forwardings.list(context, query), context.scope, query)

    async def GetForwarding(self, request: pb.GetForwardingRequest, context: CallContext) -> Forwarding:
        """Return a forwarding."""
        return await self.forwardings.get(context, check_id("forwarding_id", request.forwarding_id))

    async def UpdateForwarding(self, request: pb.UpdateForwardingRequest, context: CallContext) -> Forwarding:
        """Change a forwarding's destination."""
        destination = None
        with checking() as check:
            forwarding_id = check.uuid("forwarding_id", request.forwarding_id)
            if request.HasField("email"):
                destination = check.canonical("email", request.email, canonical_destination)
        rule = partial(rules.redirect_forwarding, destination=destination, policy=self.policy, now=self.clock())
        checked_rule = convert.require_etag(request.etag, convert.etag, "forwarding", rule)
        return await self.forwardings.redirect(context, forwarding_id, destination, checked_rule)

    async def DeleteForwarding(self, request: pb.DeleteForwardingRequest, context: CallContext) -> Forwarding:
        """Delete a forwarding."""
        forwarding_id = check_id("forwarding_id", request.forwarding_id)
        rule = partial(rules.delete_forwarding, policy=self.policy, now=self.clock())
        checked_rule = convert.require_etag(request.etag, convert.etag, "forwarding", rule)
        return await self.forwardings.delete(context, forwarding_id, checked_rule)

    async def GetMailboxForwarding(
        self, request: pb.GetMailboxForwardingRequest, context: CallContext
    ) -> MailboxForwarding:
        """Return the settings of a mailbox's forwardings."""
        return await self.forwardings.settings(context, check_id("mailbox_id", request.mailbox_id))

    async def UpdateMailboxForwarding(
        self, request: pb.UpdateMailboxForwardingRequest, context: CallContext
    ) -> MailboxForwarding:
        """Change the settings of a mailbox's forwardings."""
        mailbox_id = check_id("mailbox_id", request.mailbox_id)
        now = self.clock()
        rule = partial(
            rules.change_settings,
            keep_copy=request.keep_copy if request.HasField("keep_copy") else None,
            enabled=request.enabled if request.HasField("enabled") else None,
            now=now,
        )
        checked_rule = convert.require_etag(request.etag, convert.etag, "mailbox_forwarding", rule)
        apply = partial(rules.apply_settings, policy=self.policy, now=now)
        return await self.forwardings.change_settings(context, mailbox_id, checked_rule, apply)

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "CreateForwarding": Rpc(self.CreateForwarding, convert.forwarding_message),
            "ListForwardings": Rpc(self.ListForwardings, _list_response),
            "GetForwarding": Rpc(self.GetForwarding, convert.forwarding_message),
            "UpdateForwarding": Rpc(self.UpdateForwarding, convert.forwarding_message, self.GetForwarding),
            "DeleteForwarding": Rpc(self.DeleteForwarding, convert.forwarding_message, self.GetForwarding),
            "GetMailboxForwarding": Rpc(self.GetMailboxForwarding, convert.mailbox_forwarding_message),
            "UpdateMailboxForwarding": Rpc(
                self.UpdateMailboxForwarding, convert.mailbox_forwarding_message, self.GetMailboxForwarding
            ),
        }


def _list_response(result: page_tokens.ListResult[Forwarding]) -> pb.ListForwardingsResponse:
    return pb.ListForwardingsResponse(
        total_count=result.page.total_count,
        forwardings=map(convert.forwarding_message, result.page.items),
        next_page_token=result.next_page_token,
    )
