"""Quotas of what an organization stores, checked against the counters that triggers maintain (`quota_usage`).

A transaction inserts first and checks then. The trigger has locked the counter's row until the commit, so that of two
transactions that race for the last place the second sees the first, and is rolled back.
"""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.errors import QuotaExceeded, ResourceName
from postroomd.storage import schema as t

RESPONSES_EXPIRE = "calls without an idempotency key store nothing, and stored responses expire after 24 hours"


async def require_within(
    connection: AsyncConnection, organization_id: str, resource: str, quotas: Mapping[ResourceName, int], added: int
) -> None:
    """Raise QuotaExceeded if a subject of the organization has no room for one more of a resource.

    `added` of them, 0 or 1, are this transaction's own, which the error does not count.
    """
    usage = t.quota_usage.c
    query = select(usage.subject_id, usage["count"]).where(
        usage.organization_id == organization_id,
        usage.resource == resource,
        usage.subject_id.in_([subject.id for subject in quotas]),
    )
    counts = {row.subject_id: row[1] for row in await connection.execute(query)}
    for subject, quota in quotas.items():
        current = counts.get(subject.id, 0) - added
        if current >= quota:
            raise QuotaExceeded(resource, quota, current, subject)


async def require_responses_within(
    connection: AsyncConnection, organization_id: str, max_responses: int, max_octets: int, added_octets: int
) -> None:
    """Raise QuotaExceeded if the organization has more stored responses than its quotas, or larger ones.

    The transaction has added one, of `added_octets`, which the error does not count.
    """
    usage = t.quota_usage.c
    query = select(usage["count"], usage.octets).where(
        usage.organization_id == organization_id,
        usage.resource == t.idempotency_keys.name,
        usage.subject_id == organization_id,
    )
    count, octets = (await connection.execute(query)).one()
    subject = ResourceName("organization", organization_id)
    if count > max_responses:
        raise QuotaExceeded("idempotency_keys", max_responses, count - 1, subject, remedy=RESPONSES_EXPIRE)
    if octets > max_octets:
        raise QuotaExceeded("idempotency_octets", max_octets, octets - added_octets, subject, remedy=RESPONSES_EXPIRE)
