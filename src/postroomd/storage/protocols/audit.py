"""The audit log."""

from typing import Protocol

from postroomd.domain.audit import AuditEvent, AuditFilter
from postroomd.domain.queries import Slice


class AuditLog(Protocol):
    """The committed changes of all tenants and the operator. Every write of a call records its own."""

    async def list(self, matching: AuditFilter, cursor: str, limit: int) -> Slice[AuditEvent]:
        """Return up to `limit` events, newest first.

        A list starts at the cursor "" and continues at the opaque `next_cursor` of the slice before. Raises
        InvalidArguments for a malformed cursor, and NotFound for a filter by an organization that does not exist, or by
        a project that does not exist in it.
        """
