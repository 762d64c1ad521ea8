"""The column types of the schema: instants as integers, enums and lists of names as text."""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from sqlalchemy import BigInteger, Dialect, String, Text
from sqlalchemy.types import TypeDecorator

from postroomd.clock import EPOCH, MICROSECOND

Member = TypeVar("Member", bound=StrEnum)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds since 1970 in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Convert a value to its stored form."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[int | None], datetime | None]:
        """Return the conversion of stored values: a single call per value, since pages have thousands of them."""
        return _instant


def _instant(value: int | None) -> datetime | None:
    # timedelta by position: as a keyword argument it takes half as long again.
    return None if value is None else EPOCH + timedelta(0, 0, value)


class Named(TypeDecorator[Member], Generic[Member]):
    """A member of an enum, stored as its value."""

    impl = String(32)
    cache_ok = True

    def __init__(self, enum: type[Member]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: Member | None, dialect: Dialect) -> str | None:
        """Convert a value to its stored form."""
        return None if value is None else value.value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Member | None]:
        """Return the conversion of stored values: a single lookup per value, since pages have thousands of them."""
        members: dict[str | None, Member | None] = {None: None, **{member.value: member for member in self.enum}}
        return members.__getitem__


class Names(TypeDecorator[tuple[str, ...]]):
    """Names or ids without commas, stored as text with a comma between two."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        """Convert a value to its stored form."""
        return None if value is None else ",".join(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        """Convert a stored value."""
        return None if value is None else tuple(filter(None, value.split(",")))
