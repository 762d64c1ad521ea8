"""Messages of the contract as rows: the same names and values as in the REST API's JSON."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

TIMESTAMP = "google.protobuf.Timestamp"
NO_STATUS = "unknown_status"
"""The value of a status that is not set."""


def to_row(message: "Message") -> dict[str, Any]:
    """Return the fields of a message by name: enums in lower case, instants as datetime, and None if one is not set."""
    fields: Iterable[FieldDescriptor] = message.DESCRIPTOR.fields  # type: ignore[assignment] # or its twin in C
    return {field.name: _value(message, field) for field in fields}


class Rows(list[dict[str, Any]]):
    """Rows of one kind of message. `fields` are its fields, also if there is no row."""

    def __init__(self, rows: Iterable[dict[str, Any]], fields: Sequence[str]) -> None:
        super().__init__(rows)
        self.fields = tuple(fields)


def to_rows(messages: Iterable["Message"]) -> list[dict[str, Any]]:
    """Return the rows of messages."""
    return [to_row(message) for message in messages]


def enum_number(values: Any, name: str) -> Any:
    """Return the number of an enum's value from its lower-case name."""
    return values.Value(name.upper())


def list_rows(method: Callable[..., Any], request: Any, field: str, page_size: int, limit: int = 0) -> Rows:
    """Return the rows of a list, read as by `pages`."""
    fields: list[str] = []

    def call(*arguments: Any, **keywords: Any) -> Any:
        response = method(*arguments, **keywords)
        fields[:] = response.DESCRIPTOR.fields_by_name[field].message_type.fields_by_name
        return response

    rows = to_rows(pages(call, request, field, page_size, limit))
    return Rows(rows, fields)


def pages(method: Callable[..., Any], request: Any, field: str, page_size: int, limit: int = 0) -> Iterator[Any]:
    """Yield the items of a list, page after page, at most `limit` of them unless it is 0.

    `field` is the field of the response that has them. Lists are read from the primary database, so that they show
    what the same user has just changed.
    """
    request.page_size = min(page_size, limit or page_size)
    remaining = limit
    while True:
        response = method(request, metadata=(("x-consistency", "strong"),))
        items = getattr(response, field)
        yield from items[:remaining] if limit else items
        remaining -= len(items)
        if not response.next_page_token or (limit and remaining <= 0):
            return
        request.page_token = response.next_page_token


def _value(message: "Message", field: "FieldDescriptor") -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [to_row(each) if field.message_type else each for each in value]
    if field.message_type is not None:
        if not message.HasField(field.name):
            return None
        return value.ToDatetime(tzinfo=UTC) if field.message_type.full_name == TIMESTAMP else to_row(value)
    if field.has_presence and not message.HasField(field.name):
        return None
    return field.enum_type.values_by_number[value].name.lower() if field.enum_type else value
