"""The ends of subscription periods.

Periods are counted from an anchor, the first start, and not from one another: a monthly subscription that starts on
31 January is renewed on 28 February and then on 31 March. All instants are in UTC, to the microsecond.
"""

import calendar
from datetime import datetime

from postroomd.domain.model import SubscriptionPeriod

MONTHS = {SubscriptionPeriod.MONTHLY: 1, SubscriptionPeriod.YEARLY: 12}
"""The length of each period, in months. CANCELED has none."""


def add_months(anchor: datetime, months: int) -> datetime:
    """Return the instant `months` after `anchor`: on the anchor's day of the month, or on the month's last day."""
    year, month0 = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, calendar.monthrange(year, month0 + 1)[1])
    return anchor.replace(year=year, month=month0 + 1, day=day)


def period_end(anchor: datetime, start: datetime, period: SubscriptionPeriod) -> datetime:
    """Return the end of the period that starts at `start`: the anchor, or a whole number of months after it."""
    elapsed = (start.year - anchor.year) * 12 + start.month - anchor.month
    return add_months(anchor, elapsed + MONTHS[period])
