"""Requests to end sessions on the mail server."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """A request to end the sessions whose login matches a mask, leased to one worker as with MailboxLease.

    The mask is an address, or `*@` and the name of a domain. A request is carried out twice: a login that was in
    progress when it was made may have opened a session since the first time.
    """

    id: str
    login_mask: str
    carried_out: bool
    generation: int
    failures: int


class SessionEnds(Protocol):
    """The requests of every tenant. Changes of mailboxes and domains make them, in their own transactions."""

    async def lease(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[SessionEnd]:
        """Lease requests that are due, the longest overdue first. Raises RowFailed."""

    async def complete(self, ended: Sequence[SessionEnd], repeat_at: datetime) -> None:
        """Make requests that were carried out once due again, and remove those that were carried out twice."""

    async def postpone(self, failed: Sequence[SessionEnd], until: datetime) -> None:
        """Count a failure of requests, and make them due at an instant."""

    async def discard(self, now: datetime, limit: int) -> int:
        """Remove requests that are due, for a worker that knows no mail server. Returns their number."""
