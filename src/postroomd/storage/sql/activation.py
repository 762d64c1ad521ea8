"""Requests to the mail platform for the aliases and forwardings that have waited for their domain."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.model import Alias, Domain, Forwarding
from postroomd.storage import schema as t
from postroomd.storage.protocols.rules import AliasRule, ForwardingRule
from postroomd.storage.sql.aliases import ALIAS, store_alias
from postroomd.storage.sql.forwardings import FORWARDING, store_forwarding
from postroomd.storage.sql.rows import from_row, with_next_revision


async def request_aliases(
    connection: AsyncConnection, domain: Domain, rule: AliasRule, now: datetime, limit: int
) -> int:
    """Apply a rule to aliases that wait for their domain, whose row is locked. Returns their number."""
    waiting = select(*ALIAS).where(t.aliases.c.domain_id == domain.id, *t.TO_REQUEST).limit(limit).with_for_update()
    aliases = [from_row(Alias, row) for row in await connection.execute(waiting)]
    for alias in aliases:
        await store_alias(connection, alias, with_next_revision(rule(alias)), now)
    return len(aliases)


async def request_forwardings(
    connection: AsyncConnection, domain: Domain, rule: ForwardingRule, now: datetime, limit: int
) -> int:
    """Apply a rule to forwardings that wait for their domain, whose row is locked. Returns their number."""
    waiting = select(*FORWARDING).where(t.forwardings.c.domain_id == domain.id, *t.FORWARDINGS_TO_REQUEST).limit(limit)
    forwardings = [from_row(Forwarding, row) for row in await connection.execute(waiting.with_for_update())]
    for forwarding in forwardings:
        await store_forwarding(connection, forwarding, with_next_revision(rule(forwarding)), now)
    return len(forwardings)
