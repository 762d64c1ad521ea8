"""The RPCs about aliases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

from postroom.v1alpha1 import alias_pb2 as pb
from postroomd.domain.aliases import delete_alias, describe_alias, new_alias
from postroomd.domain.context import CallContext
from postroomd.domain.model import Alias
from postroomd.domain.policy import LifecyclePolicy, Quotas
from postroomd.domain.queries import AliasQuery
from postroomd.domain.validation import MAX_DESCRIPTION, check_catch_all, check_id, check_local_part, checking
from postroomd.rpc import convert, page_tokens
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.aliases import Aliases

MAX_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasServicer:
    """The RPCs about aliases."""

    aliases: Aliases
    policy: LifecyclePolicy
    quotas: Quotas
    clock: Callable[[], datetime]

    async def CreateAlias(self, request: pb.CreateAliasRequest, context: CallContext) -> Alias:
        """Create an alias of a mailbox."""
        with checking() as check:
            mailbox_id = check.uuid("mailbox_id", request.mailbox_id)
            if request.catch_all:
                local_part = check_catch_all(check, request.local_part)
            else:
                local_part = check_local_part(check, "local_part", request.local_part)
            description = check.text("description", request.description, MAX_DESCRIPTION)
        now = self.clock()
        make = partial(
            new_alias,
            alias_id=str(uuid4()),
            local_part=local_part,
            description=description,
            policy=self.policy,
            now=now,
        )
        return await self.aliases.create(context, mailbox_id, make, self.policy.quarantine_at(now), self.quotas)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: CallContext) -> page_tokens.ListResult[Alias]:
        """List aliases."""
        with checking() as check:
            page, page_size = check.page(request.page, request.page_size, MAX_PAGE_SIZE)
            query = AliasQuery(
                ordering=convert.ordering(check, request.order_by, convert.ALIAS_ORDERINGS),
                page=page,
                page_size=page_size,
                mailbox_id=check.optional_uuid("mailbox_id", request.mailbox_id),
                project_id=check.optional_uuid("project_id", request.project_id),
                status=convert.optional_member(check, "status", request.status, convert.ALIAS_STATUSES),
            )
            query = page_tokens.with_page_token(check, request, context.scope, query)
        return page_tokens.list_result(await self.aliases.list(context, query), context.scope, query)

    async def GetAlias(self, request: pb.GetAliasRequest, context: CallContext) -> Alias:
        """Return an alias."""
        alias_id = check_id("alias_id", request.alias_id)
        return await self.aliases.get(context, alias_id)

    async def UpdateAlias(self, request: pb.UpdateAliasRequest, context: CallContext) -> Alias:
        """Change an alias's description."""
        sent = request.description if request.HasField("description") else None
        with checking() as check:
            alias_id = check.uuid("alias_id", request.alias_id)
            check.text("description", sent or "", MAX_DESCRIPTION)
        rule = partial(describe_alias, description=sent, now=self.clock())
        checked_rule = convert.require_etag(request.etag, convert.etag, "alias", rule)
        return await self.aliases.change(context, alias_id, checked_rule)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: CallContext) -> Alias:
        """Delete an alias."""
        alias_id = check_id("alias_id", request.alias_id)
        rule = partial(delete_alias, policy=self.policy, now=self.clock())
        checked_rule = convert.require_etag(request.etag, convert.etag, "alias", rule)
        return await self.aliases.delete(context, alias_id, checked_rule)

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "CreateAlias": Rpc(self.CreateAlias, convert.alias_message),
            "ListAliases": Rpc(self.ListAliases, _list_response),
            "GetAlias": Rpc(self.GetAlias, convert.alias_message),
            "UpdateAlias": Rpc(self.UpdateAlias, convert.alias_message, self.GetAlias),
            "DeleteAlias": Rpc(self.DeleteAlias, convert.alias_message, self.GetAlias),
        }


def _list_response(result: page_tokens.ListResult[Alias]) -> pb.ListAliasesResponse:
    return pb.ListAliasesResponse(
        total_count=result.page.total_count,
        aliases=map(convert.alias_message, result.page.items),
        next_page_token=result.next_page_token,
    )
