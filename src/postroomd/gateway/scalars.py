"""Conversion of the protobuf types that are a single JSON string, number or boolean.

A value arrives as JSON (`from_json`), or as text of a path, a query or a map key (`from_text`). Both raise
InvalidValue, and return NOT_SET for a value that the contract treats as absent. InvalidValue never contains the value:
it may be a password.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from postroomd.gateway.violations import Reason

NOT_SET: Final = object()


class InvalidValue(Exception):
    """A value does not match the type of its field. The handler adds the field's path."""

    def __init__(self, reason: Reason, help_message: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.help_message = help_message


class UnsupportedContract(Exception):
    """The contract uses a feature that the gateway does not implement. Raised at start, never by a request."""


@dataclass(frozen=True)
class Scalar:
    """JSON conversion of one protobuf type.

    `to_json` takes the value, or, for a message type that is one JSON value, its fields `parts` as separate arguments.
    It is None if the Python value is valid JSON as it is.
    """

    from_json: Callable[[object], Any]
    to_json: Callable[..., object] | None = None
    parse_text: Callable[[str], object] | None = None  # text -> JSON value; None if the text is the value
    parts: tuple[str, ...] = ()

    def from_text(self, text: str) -> Any:
        """Convert a value given as text. Raises InvalidValue."""
        return self.from_json(text if self.parse_text is None else self.parse_text(text))


def scalar_of(field: FieldDescriptor) -> Scalar | None:
    """Return the conversion of the field's value, or of each of its values; None for a message type."""
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.message_type is not None:
        return _MESSAGES.get(field.message_type.full_name)
    return _TYPES[field.type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue("format", "must be a string")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate such as "\ud800" is valid in JSON, not in UTF-8
            raise InvalidValue("format", "must be valid Unicode text") from None
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue("format", "must be true or false")
    return value


def _parse_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text, text)


def _number_parser(pattern: str, convert: Callable[[str], object]) -> Callable[[str], object]:
    matches = re.compile(pattern, re.ASCII).fullmatch
    return lambda text: convert(text) if matches(text) else text


def _integer(minimum: int, maximum: int) -> Scalar:
    def from_json(value: object) -> int:
        if type(value) is not int:  # excludes bool, a subclass of int, and 1.0
            raise InvalidValue("format", "must be an integer")
        if not minimum <= value <= maximum:
            # One bound only: the service may accept a narrower range, such as 1 to 1000.
            bound = f"at least {minimum}" if value < minimum else f"at most {maximum}"
            raise InvalidValue("constraint", f"must be {bound}")
        return value

    # Bounded because int() rejects more than 4300 digits, and a query can hold more.
    return Scalar(from_json, parse_text=_number_parser(r"-?\d{1,400}", int))


def _float(maximum: float) -> Scalar:
    def from_json(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidValue("format", "must be a number")
        if not abs(value) <= maximum:  # also rejects NaN and infinities
            raise InvalidValue("constraint", f"must be a finite number of at most {maximum:.8g}")
        return float(value)

    return Scalar(from_json, parse_text=_number_parser(r"-?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,4})?", float))


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue("format", "must be Base64 with padding (RFC 4648, section 4)") from None


def _enum(enum: EnumDescriptor) -> Scalar:
    names = _EnumNames(enum)
    numbers: dict[str, Any] = {value.name.lower(): value.number or NOT_SET for value in enum.values}
    help_message = f"must be one of {', '.join(numbers)}"

    def from_json(value: object) -> Any:
        if not isinstance(value, str):
            raise InvalidValue("format", help_message)
        if value not in numbers:
            raise InvalidValue("constraint", help_message)
        return numbers[value]

    return Scalar(from_json, to_json=names.__getitem__)


class _EnumNames(dict[int, str]):
    """JSON names of an enum's numbers; an unknown number, of a newer service, maps to the name of the zero value."""

    def __init__(self, enum: EnumDescriptor) -> None:
        super().__init__((value.number, value.name.lower()) for value in reversed(enum.values))  # first alias wins
        self._zero = enum.values[0].name.lower()

    def __missing__(self, number: int) -> str:
        return self._zero


_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_HELP = "must be a timestamp of RFC 3339, such as 2026-01-31T12:00:00Z"


def _timestamp(value: object) -> Timestamp:
    parts = _RFC3339.fullmatch(_text(value))
    if parts is None:
        raise InvalidValue("format", _TIMESTAMP_HELP)
    day, time, fraction, offset = parts.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{'+00:00' if offset in 'Zz' else offset}").astimezone(UTC)
    except (ValueError, OverflowError):  # such as 30 February, or outside the years 1 to 9999 in UTC
        raise InvalidValue("format", _TIMESTAMP_HELP) from None
    return Timestamp(seconds=(moment - _EPOCH) // timedelta(seconds=1), nanos=int((fraction or "0").ljust(9, "0")))


def _datetime(seconds: int, nanos: int) -> datetime:
    """Return a datetime, truncated to microseconds: orjson formats it much faster than Python does."""
    return _EPOCH + timedelta(0, seconds, nanos // 1000)


_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)
_MAX_SECONDS = 315_576_000_000  # 10,000 years, the limit of google.protobuf.Duration
_DURATION_HELP = "must be a duration of up to 10,000 years in seconds, such as 1.5s"


def _duration(value: object) -> Duration:
    parts = _SECONDS.fullmatch(_text(value))
    if parts is None or int(parts[2]) > _MAX_SECONDS:
        raise InvalidValue("format", _DURATION_HELP)
    sign = -1 if parts[1] else 1
    return Duration(seconds=sign * int(parts[2]), nanos=sign * int((parts[3] or "0").ljust(9, "0")))


def _duration_text(seconds: int, nanos: int) -> str:
    sign = "-" if seconds < 0 or nanos < 0 else ""
    fraction = f".{abs(nanos):09d}".rstrip("0") if nanos else ""
    return f"{sign}{abs(seconds)}{fraction}s"


_INT32 = _integer(-(2**31), 2**31 - 1)
_INT64 = _integer(-(2**63), 2**63 - 1)
_UINT32 = _integer(0, 2**32 - 1)
_UINT64 = _integer(0, 2**64 - 1)

_TYPES: dict[int, Scalar] = {
    FieldDescriptor.TYPE_STRING: Scalar(_text),
    FieldDescriptor.TYPE_BOOL: Scalar(_boolean, parse_text=_parse_boolean),
    FieldDescriptor.TYPE_BYTES: Scalar(_bytes, to_json=lambda value: base64.b64encode(value).decode()),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_FLOAT: _float(float.fromhex("0x1.fffffep+127")),
    FieldDescriptor.TYPE_DOUBLE: _float(float.fromhex("0x1.fffffffffffffp+1023")),
}

# Well-known message types that are one JSON value.
_PARTS = ("seconds", "nanos")
_MESSAGES: dict[str, Scalar] = {
    "google.protobuf.Timestamp": Scalar(_timestamp, to_json=_datetime, parts=_PARTS),
    "google.protobuf.Duration": Scalar(_duration, to_json=_duration_text, parts=_PARTS),
}
