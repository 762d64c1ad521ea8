"""The RPCs about mailboxes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from postroom.v1alpha1 import mailbox_pb2 as pb
from postroomd.domain import mailboxes as rules
from postroomd.domain.context import CallContext
from postroomd.domain.display_names import folded_name
from postroomd.domain.domain_names import search_text
from postroomd.domain.domains import require_mailboxes_allowed
from postroomd.domain.errors import NotFound, PermissionDenied
from postroomd.domain.mailbox_updates import request_update
from postroomd.domain.model import DomainStatus, Mailbox, MailboxView
from postroomd.domain.payments import retention_of
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.queries import MailboxQuery
from postroomd.domain.validation import (
    MAX_DISPLAY_NAME,
    MAX_SEARCH,
    MAX_STORAGE_QUOTA,
    Checker,
    MailboxParameters,
    check_addresses,
    check_batch,
    check_id,
    check_new_period,
    check_password_differs,
    checking,
)
from postroomd.rpc import convert, page_tokens
from postroomd.rpc.hashing import PasswordHashing
from postroomd.rpc.list_limits import ListLimits
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.domains import Domains
from postroomd.storage.protocols.mailboxes import Mailboxes, NewMailbox

MAX_PAGE_SIZE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxServicer:
    """The RPCs about mailboxes."""

    mailboxes: Mailboxes
    domains: Domains
    hashing: PasswordHashing
    limits: ListLimits
    policy: LifecyclePolicy
    clock: Callable[[], datetime]

    async def BatchCreateMailboxes(
        self, request: pb.BatchCreateMailboxesRequest, context: CallContext
    ) -> Sequence[Mailbox]:
        """Create mailboxes in one domain, all or none."""
        if not context.password_hashes and any(sent.password_hash for sent in request.mailboxes):
            raise PermissionDenied("password_hash", "write")
        with checking() as check:
            domain_id = check.uuid("domain_id", request.domain_id)
            batch = check_batch(
                check,
                [
                    MailboxParameters(sent.local_part, sent.password, sent.display_name, sent.password_hash)
                    for sent in request.mailboxes
                ],
            )
            sent_period = convert.optional_member(
                check, "subscription_period", request.subscription_period, convert.PERIODS
            )
            period = check_new_period(check, sent_period)
            if check.violations and domain_id:
                await self._add_address_violations(check, context, domain_id, batch)
        # Whatever can fail is checked before hashing, which costs about 30 ms per password.
        domain = await self.domains.get(context, domain_id)
        require_mailboxes_allowed(domain)
        with checking() as check:
            check_addresses(check, domain.name, batch)
        hashes = await self._password_hashes(context, batch)
        now = self.clock()
        make = partial(rules.new_mailbox, period=period, policy=self.policy, now=now)
        new = [
            NewMailbox(
                partial(
                    make, mailbox_id=str(uuid4()), local_part=mailbox.local_part, display_name=mailbox.display_name
                ),
                password_hash,
            )
            for mailbox, password_hash in zip(batch, hashes, strict=True)
        ]
        return await self.mailboxes.create(context, domain_id, new, self.policy.quarantine_at(now))

    async def _password_hashes(self, context: CallContext, batch: Sequence[MailboxParameters]) -> list[str]:
        """Return the hash of each mailbox's password, or the one that was sent, which takes nothing of the budget."""
        passwords = [mailbox.password for mailbox in batch if not mailbox.password_hash]
        if not passwords:
            return [mailbox.password_hash for mailbox in batch]
        hashed = iter(await self.hashing.hash_passwords(context.scope.organization_id, passwords))
        return [mailbox.password_hash or next(hashed) for mailbox in batch]

    async def _add_address_violations(
        self, check: Checker, context: CallContext, domain_id: str, batch: Sequence[MailboxParameters]
    ) -> None:
        """Add the violations that depend on the domain's name to those of an invalid batch: one answer has all."""
        with suppress(NotFound):
            domain = await self.domains.get(context, domain_id)
            check_addresses(check, domain.name, batch)

    async def ListMailboxes(self, request: pb.ListMailboxesRequest, context: CallContext) -> bytes:
        """List mailboxes. Returns the serialized response."""
        with checking() as check:
            page, page_size = check.page(request.page, request.page_size, MAX_PAGE_SIZE)
            query = MailboxQuery(
                ordering=convert.ordering(check, request.order_by, convert.MAILBOX_ORDERINGS),
                page=page,
                page_size=page_size,
                domain_id=check.optional_uuid("domain_id", request.domain_id),
                project_id=check.optional_uuid("project_id", request.project_id),
                statuses=convert.distinct_members(check, "statuses", request.statuses, convert.MAILBOX_STATUSES),
                search=search_text(check.text("search", request.search, MAX_SEARCH)),
                folded_search=folded_name(request.search),
            )
            query = page_tokens.with_page_token(check, request, context.scope, query)
        search = min(query.search, query.folded_search, key=len)
        return await self.limits.page(context, query, search, self.mailboxes.list, _list_response)

    async def GetMailbox(self, request: pb.GetMailboxRequest, context: CallContext) -> MailboxView:
        """Return a mailbox."""
        mailbox_id = check_id("mailbox_id", request.mailbox_id)
        return await self.mailboxes.view(context, mailbox_id)

    async def UpdateMailbox(self, request: pb.UpdateMailboxRequest, context: CallContext) -> Mailbox:
        """Change the next subscription period, the password, or settings."""
        new_password = request.new_password if request.HasField("new_password") else None
        with checking() as check:
            mailbox_id = check.uuid("mailbox_id", request.mailbox_id)
            period = convert.optional_member(check, "subscription_period", request.subscription_period, convert.PERIODS)
            if new_password is not None:
                new_password = check.password("new_password", new_password)
            settings = _settings(check, request)
        update = partial(
            rules.update_mailbox,
            period=period,
            new_password=new_password is not None,
            policy=self.policy,
            now=self.clock(),
            settings=settings,
        )
        rule = convert.require_etag(request.etag, convert.etag, "mailbox", update)
        password_hash = None
        if new_password is not None:
            mailbox = await self.mailboxes.get(context, mailbox_id)
            with checking() as check:
                check_password_differs(check, "new_password", new_password, mailbox.address)
            domain = await self.domains.get(context, mailbox.domain_id)
            rule(mailbox, domain.status)  # fails before the hashing if the change is illegal
            (password_hash,) = await self.hashing.hash_passwords(context.scope.organization_id, [new_password])
        return await self.mailboxes.change(context, mailbox_id, rule, password_hash)

    async def DeleteMailbox(self, request: pb.DeleteMailboxRequest, context: CallContext) -> Mailbox:
        """Schedule a mailbox for deletion."""
        mailbox_id = check_id("mailbox_id", request.mailbox_id)
        delete = partial(_delete, policy=self.policy, now=self.clock())
        rule = convert.require_etag(request.etag, convert.etag, "mailbox", delete)
        return await self.mailboxes.change(context, mailbox_id, rule)

    async def RestoreMailbox(self, request: pb.RestoreMailboxRequest, context: CallContext) -> Mailbox:
        """Restore a mailbox that is scheduled for deletion."""
        mailbox_id = check_id("mailbox_id", request.mailbox_id)
        rule = partial(rules.restore_mailbox, policy=self.policy, now=self.clock())
        return await self.mailboxes.change(context, mailbox_id, rule)

    async def _current(
        self, request: pb.UpdateMailboxRequest | pb.DeleteMailboxRequest, context: CallContext
    ) -> Mailbox:
        return await self.mailboxes.get(context, check_id("mailbox_id", request.mailbox_id))

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "BatchCreateMailboxes": Rpc(self.BatchCreateMailboxes, _batch_response),
            "ListMailboxes": Rpc(self.ListMailboxes),
            "GetMailbox": Rpc(self.GetMailbox, convert.mailbox_view_message),
            "UpdateMailbox": Rpc(self.UpdateMailbox, convert.mailbox_message, self._current),
            "DeleteMailbox": Rpc(self.DeleteMailbox, convert.mailbox_message, self._current),
            "RestoreMailbox": Rpc(self.RestoreMailbox, convert.mailbox_message),
        }


def _settings(check: Checker, request: pb.UpdateMailboxRequest) -> rules.MailboxSettings:
    """Return the settings that a request changes."""
    names = [field.name for field in fields(rules.MailboxSettings)]
    sent: dict[str, Any] = {name: getattr(request, name) for name in names if request.HasField(name)}  # type: ignore[arg-type]
    check.text("display_name", sent.get("display_name", ""), MAX_DISPLAY_NAME)
    check.optional_count("storage_quota_bytes", sent.get("storage_quota_bytes"), MAX_STORAGE_QUOTA)
    return rules.MailboxSettings(**sent)


def _delete(mailbox: Mailbox, _domain_status: DomainStatus, policy: LifecyclePolicy, now: datetime) -> Mailbox:
    retention = retention_of(mailbox, policy, policy.deletion_retention)
    return request_update(mailbox, rules.delete_mailbox(mailbox, retention, now), policy)


def _batch_response(mailboxes: Sequence[Mailbox]) -> pb.BatchCreateMailboxesResponse:
    return pb.BatchCreateMailboxesResponse(mailboxes=map(convert.mailbox_message, mailboxes))


def _list_response(result: page_tokens.ListResult[MailboxView]) -> pb.ListMailboxesResponse:
    return pb.ListMailboxesResponse(
        total_count=result.page.total_count,
        mailboxes=convert.mailbox_view_messages(result.page.items),
        next_page_token=result.next_page_token,
    )
