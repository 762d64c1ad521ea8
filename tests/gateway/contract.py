"""RPCs, messages and fields of the contract, and Hypothesis strategies for its messages, from the descriptors."""

import math
import string
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from postroom.v1alpha1 import mailbox_service_pb2

SERVICE = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
METHODS: list[MethodDescriptor] = list(SERVICE.methods)


def _nested(messages: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in messages:
        if not message.GetOptions().map_entry:
            yield message
            yield from _nested(message.nested_types)


MESSAGES: list[Descriptor] = [
    message
    for file in (*mailbox_service_pb2.DESCRIPTOR.dependencies, mailbox_service_pb2.DESCRIPTOR)
    if file.package == SERVICE.file.package
    for message in _nested(file.message_types_by_name.values())
]
FIELDS: list[FieldDescriptor] = [field for message in MESSAGES for field in message.fields]


def entry_of(field: FieldDescriptor) -> Descriptor | None:
    """Return the entry type of a map field, None for other fields."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def owner_of(field: FieldDescriptor) -> Descriptor:
    """Return the message type that contains the field."""
    assert field.containing_type is not None
    return field.containing_type


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of a type that survive a JSON round trip: values that mean "not set" are excluded."""
    grouped = [oneof.fields for oneof in descriptor.oneofs if len(oneof.fields) > 1]
    free = {field.name: field for field in descriptor.fields if not any(field in group for group in grouped)}
    fixed = {name: _values(field) for name, field in free.items() if not field.has_presence}
    optional = {name: _values(field) for name, field in free.items() if field.has_presence}
    one_of_each = [
        st.one_of(st.just({}), *(st.fixed_dictionaries({field.name: _values(field)}) for field in group))
        for group in grouped
    ]
    fields = st.fixed_dictionaries(fixed, optional=optional)
    return st.tuples(fields, *one_of_each).map(lambda parts: _make(descriptor, parts))


def _make(descriptor: Descriptor, parts: Iterable[dict[str, Any]]) -> Message:
    return GetMessageClass(descriptor)(**{name: value for part in parts for name, value in part.items()})


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if entry := entry_of(field):
        return st.dictionaries(_one(entry.fields_by_name["key"]), _one(entry.fields_by_name["value"]), max_size=3)
    return st.lists(_one(field), max_size=3) if field.is_repeated else _one(field)


def _one(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        strategy = _WELL_KNOWN.get(field.message_type.full_name)
        return strategy() if strategy else messages(field.message_type)
    if field.enum_type is not None:
        numbers = [value.number for value in field.enum_type.values]
        # Decoding drops the zero value in lists, maps and optional fields.
        dropped = field.is_repeated or field.has_presence or owner_of(field).GetOptions().map_entry
        return st.sampled_from(numbers[1:] if dropped else numbers)
    return _SCALARS[field.type]()


def _timestamps() -> st.SearchStrategy[Timestamp]:
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1, 9999))
    return st.builds(
        lambda seconds, micros: Timestamp(seconds=seconds, nanos=micros * 1000),
        st.integers(first, last),
        st.integers(0, 999_999),
    )


def _durations() -> st.SearchStrategy[Duration]:
    return st.builds(
        lambda sign, seconds, nanos: Duration(seconds=sign * seconds, nanos=sign * nanos),
        st.sampled_from([-1, 1]),
        st.integers(0, 315_576_000_000),
        st.integers(0, 999_999_999),
    )


_WELL_KNOWN: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
    "google.protobuf.Timestamp": _timestamps,
    "google.protobuf.Duration": _durations,
}


def _text() -> st.SearchStrategy[str]:
    return st.text(max_size=20) | st.text(string.ascii_letters, max_size=5)


def _signed(bits: int) -> Callable[[], st.SearchStrategy[int]]:
    return lambda: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _unsigned(bits: int) -> Callable[[], st.SearchStrategy[int]]:
    return lambda: st.integers(0, 2**bits - 1)


def _floats(width: int) -> Callable[[], st.SearchStrategy[float]]:
    return lambda: st.floats(allow_nan=False, allow_infinity=False, width=width).filter(math.isfinite)  # type: ignore[arg-type]


_SCALARS: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BYTES: lambda: st.binary(max_size=20),
    FieldDescriptor.TYPE_BOOL: st.booleans,
    FieldDescriptor.TYPE_INT32: _signed(32),
    FieldDescriptor.TYPE_SINT32: _signed(32),
    FieldDescriptor.TYPE_SFIXED32: _signed(32),
    FieldDescriptor.TYPE_INT64: _signed(64),
    FieldDescriptor.TYPE_SINT64: _signed(64),
    FieldDescriptor.TYPE_SFIXED64: _signed(64),
    FieldDescriptor.TYPE_UINT32: _unsigned(32),
    FieldDescriptor.TYPE_FIXED32: _unsigned(32),
    FieldDescriptor.TYPE_UINT64: _unsigned(64),
    FieldDescriptor.TYPE_FIXED64: _unsigned(64),
    FieldDescriptor.TYPE_FLOAT: _floats(32),
    FieldDescriptor.TYPE_DOUBLE: _floats(64),
}
