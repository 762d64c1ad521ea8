"""JSON encoders and decoders of messages, compiled once from their descriptors.

Responses contain every field, by its snake_case name: an unset message, such as a timestamp, is null; only an unset
`optional` field is absent. In requests, null and an enum's zero value mean "not set".
"""

import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from postroomd.gateway.scalars import NOT_SET, InvalidValue, Scalar, UnsupportedContract, scalar_of
from postroomd.gateway.violations import Violations

# Larger than any list that the contract allows. Decoding 1 MiB of `{},` would take seconds before its rejection.
MAX_LIST_LENGTH = 10_000

Encode = Callable[[Any], Any]
Decode = Callable[[object, str, Violations], Any]


def to_bytes(values: object) -> bytes:
    """Serialize the result of an encoder."""
    return orjson.dumps(values, option=orjson.OPT_UTC_Z)


# --- Messages to JSON ------------------------------------------------------------------------------------------------


@cache  # the items of a list are encoded alone, too
def compile_encoder(
    message: Descriptor, *, ancestors: tuple[Descriptor, ...] = ()
) -> Callable[[Message], dict[str, Any]]:
    """Return a function from such a message to a dict for `to_bytes`. Raises UnsupportedContract.

    It dominates the cost of a page, so its source is generated per message, as dataclasses generates `__init__`:

        def encode(message):
            [v0, v1, v2s, v2n, v3] = read(message)
            return {"id": v0, "status": e1(v1), "at": e2(v2s, v2n) if v2s or v2n or message.HasField("at") else None,
                    **({"error": v3} if message.HasField("error") else {})}

    One call into C reads all fields; Python code runs only for fields whose Python value is not valid JSON.
    """
    ancestors = _descend(message, ancestors)
    paths: list[str] = []
    items: list[str] = []
    scope: dict[str, Any] = {}
    for field in message.fields:
        parts = _read_paths(field)
        names = [f"v{len(paths) + place}" for place in range(len(parts))]
        paths += parts
        value = ", ".join(names)
        if (encode := _field_encoder(field, ancestors)) is not None:
            scope[f"encode_{names[0]}"] = encode
            value = f"encode_{names[0]}({value})"
        item = f"{field.name!r}: {value}"
        if field.has_presence and (field.message_type is None or _is_optional(field)):
            item = f"**({{{item}}} if message.HasField({field.name!r}) else {{}})"
        elif field.has_presence:
            # A part other than 0 implies presence, and saves the call of HasField.
            present = [*(names if len(names) > 1 else ()), f"message.HasField({field.name!r})"]
            item += f" if {' or '.join(present)} else None"
        items.append(item)
    values = ", ".join(f"v{place}" for place in range(len(paths)))
    source = f"def encode(message):\n    [{values}] = read(message)\n    return {{{', '.join(items)}}}"
    functions: dict[str, Callable[[Message], dict[str, Any]]] = {}
    exec(source, scope | {"read": _reader(paths)}, functions)  # noqa: S102 - contains field names only, no input
    return functions["encode"]


def list_encoders(message: Descriptor) -> dict[str, Encode]:
    """Return the encoder of one item for each field that is a list of messages. Raises UnsupportedContract."""
    return {
        field.name: _element_encoder(field, _descend(message, ()))
        for field in message.fields
        if field.is_repeated and field.type == FieldDescriptor.TYPE_MESSAGE and _map_entry(field) is None
    }


def _is_optional(field: FieldDescriptor) -> bool:
    """Whether a field is declared `optional`: proto3 has a oneof of that field alone, named after it."""
    return field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"


def _read_paths(field: FieldDescriptor) -> list[str]:
    """Return the attribute paths read for a field: itself, or the parts of a message that is one JSON value."""
    scalar = None if field.is_repeated else scalar_of(field)
    return [f"{field.name}.{part}" for part in scalar.parts] if scalar and scalar.parts else [field.name]


def _reader(paths: list[str]) -> Callable[[Message], Iterable[Any]]:
    """Return attrgetter(*paths), except that it returns a sequence for zero and one path as well."""
    if len(paths) > 1:
        return attrgetter(*paths)
    return lambda message: [attrgetter(path)(message) for path in paths]


def _field_encoder(field: FieldDescriptor, ancestors: tuple[Descriptor, ...]) -> Callable[..., Any] | None:
    """Return the encoder of the values of `_read_paths`; None if they are valid JSON."""
    if entry := _map_entry(field):
        encode = _element_encoder(entry.fields_by_name["value"], ancestors)
        key_text: Encode = _boolean_key if entry.fields_by_name["key"].type == FieldDescriptor.TYPE_BOOL else str
        return lambda values: {key_text(key): encode(value) for key, value in values.items()}
    if not field.is_repeated:
        return _value_encoder(field, ancestors)
    encode_element = _element_encoder(field, ancestors)
    return lambda values: [encode_element(value) for value in values]


def _element_encoder(field: FieldDescriptor, ancestors: tuple[Descriptor, ...]) -> Encode:
    """Return the encoder of one element of a list or a map."""
    scalar, encode = scalar_of(field), _value_encoder(field, ancestors)
    if encode is None:
        return lambda value: value
    if scalar is None or not scalar.parts:
        return encode
    read = attrgetter(*scalar.parts)
    return lambda value: encode(*read(value))


def _value_encoder(field: FieldDescriptor, ancestors: tuple[Descriptor, ...]) -> Callable[..., Any] | None:
    scalar = scalar_of(field)
    if scalar is not None:
        return scalar.to_json
    return compile_encoder(_message_of(field), ancestors=ancestors)


def _boolean_key(key: bool) -> str:
    return "true" if key else "false"


# --- JSON to messages ------------------------------------------------------------------------------------------------


class RepeatedKeys(dict[str, Any]):
    """JSON object with duplicate keys, which `repeated` contains."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: set[str] = set()
        for key, value in pairs:
            if key in self:
                self.repeated.add(key)
            self[key] = value


def parse_body(body: bytes, violations: Violations) -> object:
    """Return the JSON value of a body. If it is not JSON, add a violation of `body` and return NOT_SET.

    A UTF-8 byte order mark is skipped (RFC 8259, section 8.1).
    """
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_parse_integer)
    except UnicodeDecodeError:
        violations.add("body", "format", "must be UTF-8")
    except RecursionError:
        violations.add("body", "format", "is nested too deeply")
    except ValueError:
        violations.add("body", "format", "must be JSON")
    return NOT_SET


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else RepeatedKeys(pairs)


def _parse_integer(digits: str) -> float:
    """Return an integer, or infinity beyond 400 digits: every numeric field then rejects it under its own name."""
    return int(digits) if len(digits) <= 400 else math.inf


class FieldsDecoder:
    """Decodes a JSON object into constructor arguments of one message."""

    def __init__(
        self, message: Descriptor, *, exclude: Iterable[str] = (), ancestors: tuple[Descriptor, ...] = ()
    ) -> None:
        """Compile the decoders of all fields; those in `exclude` are unknown arguments. Raises UnsupportedContract."""
        ancestors = _descend(message, ancestors)
        self._fields = {
            field.name: field_decoder(field, ancestors) for field in message.fields if field.name not in exclude
        }
        self._oneofs = [[field.name for field in oneof.fields] for oneof in message.oneofs]

    def __call__(self, value: object, path: str, violations: Violations) -> dict[str, Any]:
        """Decode all fields, adding every violation. `path` is the object's path, empty for the request itself."""
        if not isinstance(value, dict):
            violations.add(path or "body", "format", "must be an object")
            return {}
        repeated = value.repeated if isinstance(value, RepeatedKeys) else ()
        prefix = f"{path}." if path else ""
        values = {}
        for name, item in value.items():
            decode = self._fields.get(name)
            if decode is None:
                violations.add(prefix + name, "unknown", "is not an argument of this call")
            elif name in repeated:
                violations.add(prefix + name, "format", "is given more than once")
            elif (decoded := decode(item, prefix + name, violations)) is not NOT_SET:
                values[name] = decoded
        for oneof in self._oneofs:
            for name in [name for name in oneof if name in values][1:]:
                violations.add(prefix + name, "constraint", f"cannot be combined with any other of {', '.join(oneof)}")
        return values


def field_decoder(field: FieldDescriptor, ancestors: tuple[Descriptor, ...] = ()) -> Decode:
    """Return the decoder of a field, which returns NOT_SET for null and for an invalid value."""
    if entry := _map_entry(field):
        return _map_decoder(entry, ancestors)
    decode_value = _value_decoder(field, ancestors)
    return _nullable(_list_decoder(decode_value) if field.is_repeated else decode_value)


def _nullable(decode: Decode) -> Decode:
    return lambda value, path, violations: NOT_SET if value is None else decode(value, path, violations)


def _value_decoder(field: FieldDescriptor, ancestors: tuple[Descriptor, ...]) -> Decode:
    scalar = scalar_of(field)
    if scalar is not None:
        return _scalar_decoder(scalar)
    message = _message_of(field)
    decode_fields, message_class = FieldsDecoder(message, ancestors=ancestors), GetMessageClass(message)
    return lambda value, path, violations: message_class(**decode_fields(value, path, violations))


def _scalar_decoder(scalar: Scalar) -> Decode:
    def decode(value: object, path: str, violations: Violations) -> Any:
        try:
            return scalar.from_json(value)
        except InvalidValue as error:
            violations.add(path, error.reason, error.help_message)
            return NOT_SET

    return decode


def _list_decoder(decode_item: Decode) -> Decode:
    def decode(value: object, path: str, violations: Violations) -> Any:
        if not isinstance(value, list):
            violations.add(path, "format", "must be a list")
            return NOT_SET
        if len(value) > MAX_LIST_LENGTH:
            violations.add(path, "constraint", f"must have at most {MAX_LIST_LENGTH} items")
            return NOT_SET
        items = (decode_item(item, f"{path}[{index}]", violations) for index, item in enumerate(value))
        return [item for item in items if item is not NOT_SET]

    return decode


def _map_decoder(entry: Descriptor, ancestors: tuple[Descriptor, ...]) -> Decode:
    key = scalar_of(entry.fields_by_name["key"])
    decode_value = _value_decoder(entry.fields_by_name["value"], ancestors)
    assert key is not None  # noqa: S101 - map keys are always scalars

    def decode(value: object, path: str, violations: Violations) -> Any:
        if not isinstance(value, dict):
            violations.add(path, "format", "must be an object")
            return NOT_SET
        values = {}
        repeated = value.repeated if isinstance(value, RepeatedKeys) else ()
        for name, item in value.items():
            item_path = f"{path}.{name}"
            if name in repeated:
                violations.add(item_path, "format", "is given more than once")
                continue
            try:
                decoded_key = key.from_text(name)
            except InvalidValue as error:
                violations.add(item_path, error.reason, f"as a key {error.help_message}")
                continue
            if (decoded := decode_value(item, item_path, violations)) is not NOT_SET:
                values[decoded_key] = decoded
        return values

    return _nullable(decode)


# --- Descriptors -----------------------------------------------------------------------------------------------------


def _descend(message: Descriptor, ancestors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    if message in ancestors:
        raise UnsupportedContract(f"{message.full_name} is recursive, so its JSON could have any depth")
    return (*ancestors, message)


def _map_entry(field: FieldDescriptor) -> Descriptor | None:
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def _message_of(field: FieldDescriptor) -> Descriptor:
    message = field.message_type
    assert message is not None  # noqa: S101 - scalar_of covers every other type
    # google.protobuf.Any, Struct, FieldMask and the wrappers have special JSON forms.
    if message.full_name.startswith("google.protobuf.") and message.full_name != "google.protobuf.Empty":
        raise UnsupportedContract(f"{field.full_name} has type {message.full_name}, whose JSON form is not implemented")
    return message
