"""The progress of the purge of a domain, in the log."""

from datetime import datetime, timedelta

from postroomd.observability.logs import get_logger
from postroomd.storage.protocols.work import DomainPurge

LOG_INTERVAL = timedelta(seconds=10)

log = get_logger()


class PurgeProgress:
    """Logs a line when the purge of a large domain begins, every LOG_INTERVAL, and at its end.

    A purge of one batch has no progress to log. Workers purge one domain after the other; the numbers are of this
    worker, and begin anew when it turns to another domain.
    """

    def __init__(self) -> None:
        self._domain_id = ""
        self._mailboxes = 0
        self._logged_at: datetime | None = None

    def record(self, batch: DomainPurge, now: datetime) -> None:
        """Record a batch, and log a line if it is time."""
        if batch.domain_id != self._domain_id:
            self._domain_id, self._mailboxes, self._logged_at = batch.domain_id, 0, None
        self._mailboxes += batch.mailboxes
        if not batch.mailboxes:
            if batch.removed and self._logged_at is not None:
                log.info("domain purged", domain_id=batch.domain_id, mailboxes=self._mailboxes)
            self._domain_id, self._logged_at = "", None
        elif batch.remaining and (self._logged_at is None or now - self._logged_at >= LOG_INTERVAL):
            log.info("purging domain", domain_id=batch.domain_id, mailboxes=self._mailboxes, remaining=batch.remaining)
            self._logged_at = now
