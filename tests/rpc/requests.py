"""Protobuf requests from the shared table of operations, and responses in the form of the REST contract."""

from collections.abc import Mapping
from datetime import UTC
from types import SimpleNamespace
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from tests.rpc.client import METHODS, fresh_name
from tests.support.operations import LISTS, OPERATIONS, ListOperation, Operation

REQUEST_TYPES = {method.name: GetMessageClass(method.input_type) for method in METHODS}
OPERATION_OF: Mapping[str, Operation] = {operation.rpc: operation for operation in OPERATIONS}
LIST_OF: Mapping[str, ListOperation] = {operation.rpc: operation for operation in LISTS}
MUTATING = [operation.rpc for operation in OPERATIONS if operation.mutating]
READING = [method.name for method in METHODS if method.name not in MUTATING]


def orders_of(operation: ListOperation) -> list[str]:
    """The names of a list's orders, such as CREATED_AT_DESC."""
    return list(REQUEST_TYPES[operation.rpc].DESCRIPTOR.enum_types_by_name["OrderBy"].values_by_name)


def valid_request(rpc: str, ids: Mapping[str, str]) -> Message:
    """A valid request: of an operation about the resource among the ids, or of a list without filters."""
    if rpc in LIST_OF:
        return REQUEST_TYPES[rpc]()
    operation = OPERATION_OF[rpc]
    arguments = {operation.id_argument: ids[operation.resource], **operation.arguments}
    if rpc == "CreateDomain":
        arguments["name"] = fresh_name()
    return request_of(rpc, **arguments)


def request_of(rpc: str, **arguments: Any) -> Message:
    """A request with arguments in the form of the REST contract."""
    kind = REQUEST_TYPES[rpc]
    return kind(**{name: _protobuf_value(kind.DESCRIPTOR, name, value) for name, value in arguments.items()})


def _protobuf_value(descriptor: Any, name: str, value: Any) -> Any:
    if descriptor.fields_by_name[name].enum_type is None:
        return value
    return [item.upper() for item in value] if isinstance(value, list) else value.upper()


def contract_object(message: Message) -> SimpleNamespace:
    """A response in the form of the REST contract: enum values and timestamps as in tests/support/walk.py."""
    return SimpleNamespace(**{field.name: _contract_field(message, field) for field in message.DESCRIPTOR.fields})


def _contract_field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_contract_value(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _contract_value(field, value)


def _contract_value(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC)
    if isinstance(value, Message):
        return contract_object(value)
    return field.enum_type.values_by_number[value].name.lower() if field.enum_type else value
