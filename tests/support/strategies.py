"""Hypothesis strategies for the domain's models."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, get_type_hints

from hypothesis import strategies as st

from postroomd.domain.model import Mailbox, MailboxView, SubscriptionPeriod

INSTANTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    datetime: INSTANTS,
    datetime | None: st.none() | INSTANTS,
    int: st.integers(1, 2**31 - 1),
    str: TEXTS,
    str | None: st.none() | TEXTS,
    bool: st.booleans(),
    SubscriptionPeriod | None: st.none() | st.sampled_from(SubscriptionPeriod),
}


def _values_of(hint: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(hint) if isinstance(hint, type) and issubclass(hint, StrEnum) else _BY_TYPE[hint]


def view_of(mailbox: Mailbox) -> MailboxView:
    """Return the view of a mailbox that reads serve."""
    values = (getattr(mailbox, name) for name in MailboxView._fields)
    stored: list[Any] = [_microseconds(value) if isinstance(value, datetime) else value for value in values]
    return MailboxView(*stored)


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


MAILBOXES = st.builds(Mailbox, **{name: _values_of(hint) for name, hint in get_type_hints(Mailbox).items()})
