"""JSON schemas of messages, by the rules of the gateway's codec (postroomd.gateway.json_codec and scalars)."""

from collections.abc import Collection, Mapping
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from tools.openapi.comments import Comments, integer_limits, list_limits, string_limits

Schema = dict[str, Any]

_INTEGERS: Mapping[int, tuple[str, int, int]] = {
    FieldDescriptor.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: ("int64", 0, 2**32 - 1),
}
_TIMESTAMP = "google.protobuf.Timestamp"


class Schemas:
    """Schemas of responses, which are components, and of requests, which are inline."""

    def __init__(self, comments: Comments) -> None:
        self._comments = comments
        self.components: dict[str, Schema] = {}

    def response(self, message: Descriptor) -> Schema:
        """Return a reference to the schema of a response: every field is present, but an unset `optional` one."""
        name = _component_name(message)
        if name not in self.components:
            self.components[name] = {}  # the place in the order of first use
            properties = {field.name: self._response_field(field) for field in message.fields}
            self.components[name] = {
                "type": "object",
                "description": self._comments[message.full_name],
                "properties": properties,
                "required": [field.name for field in message.fields if not _is_optional(field)],
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _response_field(self, field: FieldDescriptor) -> Schema:
        comment = self._comments[field.full_name]
        schema = self._value(field, {}, response=True)
        if field.is_repeated:
            return {"type": "array", "items": schema, "description": comment}
        if field.message_type is not None and field.message_type.full_name == _TIMESTAMP:
            schema["type"] = ["string", "null"]
        if field.type == FieldDescriptor.TYPE_STRING and string_limits(comment).get("format"):
            schema |= string_limits(comment)
        return schema | {"description": comment}

    def body(self, message: Descriptor, excluded: Collection[str]) -> Schema:
        """Return the schema of a JSON body: null means "not set", and unknown fields are refused."""
        fields = [field for field in message.fields if field.name not in excluded]
        required = [field.name for field in fields if _is_required(field)]
        properties = {field.name: self._request_field(field, nullable=not _is_required(field)) for field in fields}
        schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
        return schema | ({"required": required} if required else {})

    def parameter(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a path or query parameter."""
        return self._request_field(field, nullable=False)

    def comment(self, field: FieldDescriptor) -> str:
        """Return the comment of a field."""
        return self._comments[field.full_name]

    def _request_field(self, field: FieldDescriptor, *, nullable: bool) -> Schema:
        comment = self._comments[field.full_name]
        if field.is_repeated:
            schema = {"type": "array", "items": self._value(field, {}, response=False), **list_limits(comment)}
        else:
            limits = integer_limits(comment) if field.type in _INTEGERS else string_limits(comment)
            schema = self._value(field, limits, response=False)
            if field.type == FieldDescriptor.TYPE_STRING and not _is_required(field) and "minLength" not in limits:
                schema = _or_empty(schema)
        if nullable:
            schema = _or_null(schema)
        return schema | {"description": comment}

    def _value(self, field: FieldDescriptor, limits: Mapping[str, Any], *, response: bool) -> Schema:
        """Return the schema of one value of a field, without its description."""
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.message_type is not None:
            if field.message_type.full_name == _TIMESTAMP:
                return {"type": "string", "format": "date-time"}
            return self.response(field.message_type) if response else self.body(field.message_type, ())
        if field.type in _INTEGERS:
            name, minimum, maximum = _INTEGERS[field.type]
            return {"type": "integer", "format": name, "minimum": minimum, "maximum": maximum, **limits}
        if field.type == FieldDescriptor.TYPE_BOOL:
            return {"type": "boolean"}
        if field.type == FieldDescriptor.TYPE_STRING:
            return {"type": "string", **limits}
        raise TypeError(f"{field.full_name} has a type that the OpenAPI generator does not know: add it")

    def _enum(self, enum: EnumDescriptor) -> Schema:
        """Return the component of an enum: the lower-case names of its values."""
        name = _component_name(enum)
        if name not in self.components:
            lines = [
                f"- `{value.name.lower()}`: {self._comments[f'{enum.full_name}.{value.name}']}" for value in enum.values
            ]
            self.components[name] = {
                "type": "string",
                "enum": [value.name.lower() for value in enum.values],
                "description": "\n".join([self._comments[enum.full_name], "", *lines]),
            }
        return {"$ref": f"#/components/schemas/{name}"}


def _component_name(descriptor: Descriptor | EnumDescriptor) -> str:
    """Return the name of a message or enum below its package: `Mailbox`, `Mailbox.Status` as `MailboxStatus`."""
    package: str = descriptor.file.package
    full_name: str = descriptor.full_name
    return full_name.removeprefix(f"{package}.").replace(".", "")


def _is_required(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _is_optional(field: FieldDescriptor) -> bool:
    if field.message_type is None:
        return bool(field.has_presence)
    return field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"


def _or_empty(schema: Schema) -> Schema:
    """Return a schema that accepts the empty string, which means "not set", besides a formatted one."""
    return {"anyOf": [schema, {"type": "string", "maxLength": 0}]} if "format" in schema else schema


def _or_null(schema: Schema) -> Schema:
    if "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}]}
