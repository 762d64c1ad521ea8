"""Messages to JSON and back: an encoder and a decoder for each message, compiled once from its descriptor.

An answer holds every field, by its snake_case name. In a request, null and an enum's zero value mean "not set".
"""

import json
import math
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from postroomd.gateway.scalars import NOT_SET, Fault, Scalar, Unsupported, scalar_of
from postroomd.gateway.violations import Violations

# Far more than any call of the contract takes. A mebibyte of `{},` would cost seconds to decode, to be refused after.
LONGEST_LIST = 10_000

Encode = Callable[[Any], Any]
Decode = Callable[[object, str, Violations], Any]


def to_bytes(values: object) -> bytes:
    """Write what an encoder made."""
    return orjson.dumps(values, option=orjson.OPT_UTC_Z)


# --- Messages to JSON ------------------------------------------------------------------------------------------------


def compile_encoder(message: Descriptor, *, within: tuple[Descriptor, ...] = ()) -> Callable[[Message], dict[str, Any]]:
    """Make the function that turns such a message into a dict for `to_bytes`. Raises Unsupported.

    It is what a page costs, so it is written out for the message, as dataclasses writes an `__init__`:

        def encode(message):
            [v0, v1, v2s, v2n] = read(message)
            return {"id": v0, "status": e1(v1), "at": e2(v2s, v2n) if v2s or v2n or message.HasField("at") else None}

    All fields are read in one call into C, and those alone are touched again whose Python value is not what JSON shows.
    """
    within = _enter(message, within)
    paths: list[str] = []
    items: list[str] = []
    known: dict[str, Any] = {}
    for field in message.fields:
        parts = _parts_of(field)
        names = [f"v{len(paths) + place}" for place in range(len(parts))]
        paths += parts
        value = ", ".join(names)
        if (encode := _field_encoder(field, within)) is not None:
            known[f"encode_{names[0]}"] = encode
            value = f"encode_{names[0]}({value})"
        if field.has_presence:
            # Numbers of which one is not 0 are present, and nothing is asked about them.
            present = [*(names if len(names) > 1 else ()), f"message.HasField({field.name!r})"]
            value = f"{value} if {' or '.join(present)} else None"
        items.append(f"{field.name!r}: {value}")
    values = ", ".join(f"v{place}" for place in range(len(paths)))
    source = f"def encode(message):\n    [{values}] = read(message)\n    return {{{', '.join(items)}}}"
    made: dict[str, Callable[[Message], dict[str, Any]]] = {}
    exec(source, known | {"read": _reader(paths)}, made)  # noqa: S102 - no text of a caller's is in it
    return made["encode"]


def _parts_of(field: FieldDescriptor) -> list[str]:
    """Name what is read of a field: itself, or the numbers of a message that is one JSON value."""
    scalar = None if field.is_repeated else scalar_of(field)
    return [f"{field.name}.{part}" for part in scalar.parts] if scalar and scalar.parts else [field.name]


def _reader(paths: list[str]) -> Callable[[Message], Iterable[Any]]:
    """Like attrgetter(*paths), but a sequence for one path and for none too."""
    if len(paths) > 1:
        return attrgetter(*paths)
    return lambda message: [attrgetter(path)(message) for path in paths]


def _field_encoder(field: FieldDescriptor, within: tuple[Descriptor, ...]) -> Callable[..., Any] | None:
    """Make the encoder of what `_parts_of` reads; None where it is JSON as it is."""
    if entry := _map_entry(field):
        encode = _element_encoder(entry.fields_by_name["value"], within)
        text: Encode = _key_text if entry.fields_by_name["key"].type == FieldDescriptor.TYPE_BOOL else str
        return lambda values: {text(key): encode(value) for key, value in values.items()}
    if not field.is_repeated:
        return _value_encoder(field, within)
    one = _element_encoder(field, within)
    return lambda values: [one(value) for value in values]


def _element_encoder(field: FieldDescriptor, within: tuple[Descriptor, ...]) -> Encode:
    """Make the encoder of one element of a list or a map."""
    scalar, encode = scalar_of(field), _value_encoder(field, within)
    if encode is None:
        return lambda value: value
    if scalar is None or not scalar.parts:
        return encode
    read = attrgetter(*scalar.parts)
    return lambda value: encode(*read(value))


def _value_encoder(field: FieldDescriptor, within: tuple[Descriptor, ...]) -> Callable[..., Any] | None:
    scalar = scalar_of(field)
    if scalar is not None:
        return scalar.to_json
    return compile_encoder(_message_of(field), within=within)


def _key_text(key: bool) -> str:
    return "true" if key else "false"


# --- JSON to messages ------------------------------------------------------------------------------------------------


class RepeatedKeys(dict[str, Any]):
    """A JSON object in which keys came more than once; `repeated` names them."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: set[str] = set()
        for key, value in pairs:
            if key in self:
                self.repeated.add(key)
            self[key] = value


def parse_body(body: bytes, violations: Violations) -> object:
    """Read a body's JSON. Answers NOT_SET, and notes a violation of `body`, where it is not JSON."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_int=_integer)
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


def _integer(digits: str) -> float:
    """Read an integer; one of hundreds of digits becomes an infinity, which every field refuses by its own name."""
    return int(digits) if len(digits) <= 400 else math.inf


class FieldsDecoder:
    """Reads a JSON object into the fields of one message, as arguments for its constructor."""

    def __init__(
        self, message: Descriptor, *, without: Iterable[str] = (), within: tuple[Descriptor, ...] = ()
    ) -> None:
        """Compile. Fields named in `without` are refused as unknown. Raises Unsupported."""
        within = _enter(message, within)
        self._fields = {
            field.name: field_decoder(field, within) for field in message.fields if field.name not in without
        }
        self._oneofs = [[field.name for field in oneof.fields] for oneof in message.oneofs]

    def __call__(self, value: object, path: str, violations: Violations) -> dict[str, Any]:
        """Read all fields, noting every fault of each. `path` is the object's own, empty for the message itself."""
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
                violations.add(prefix + name, "constraint", f"can't be combined with any other of {', '.join(oneof)}")
        return values


def field_decoder(field: FieldDescriptor, within: tuple[Descriptor, ...] = ()) -> Decode:
    """Make the function that reads a field's JSON. It answers NOT_SET for null and for what it notes a fault of."""
    if entry := _map_entry(field):
        return _map_decoder(entry, within)
    one = _value_decoder(field, within)
    return _or_null(_list_decoder(one) if field.is_repeated else one)


def _or_null(decode: Decode) -> Decode:
    return lambda value, path, violations: NOT_SET if value is None else decode(value, path, violations)


def _value_decoder(field: FieldDescriptor, within: tuple[Descriptor, ...]) -> Decode:
    scalar = scalar_of(field)
    if scalar is not None:
        return _scalar_decoder(scalar)
    message = _message_of(field)
    fields, make = FieldsDecoder(message, within=within), GetMessageClass(message)
    return lambda value, path, violations: make(**fields(value, path, violations))


def _scalar_decoder(scalar: Scalar) -> Decode:
    def decode(value: object, path: str, violations: Violations) -> Any:
        try:
            return scalar.from_json(value)
        except Fault as fault:
            violations.add(path, fault.reason, fault.help_message)
            return NOT_SET

    return decode


def _list_decoder(one: Decode) -> Decode:
    def decode(value: object, path: str, violations: Violations) -> Any:
        if not isinstance(value, list):
            violations.add(path, "format", "must be a list")
            return NOT_SET
        if len(value) > LONGEST_LIST:
            violations.add(path, "constraint", f"must hold {LONGEST_LIST} items at most")
            return NOT_SET
        items = (one(item, f"{path}[{index}]", violations) for index, item in enumerate(value))
        return [item for item in items if item is not NOT_SET]

    return decode


def _map_decoder(entry: Descriptor, within: tuple[Descriptor, ...]) -> Decode:
    key, one = scalar_of(entry.fields_by_name["key"]), _value_decoder(entry.fields_by_name["value"], within)
    assert key is not None  # noqa: S101 - protobuf has no other keys

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
                read = key.from_text(name)
            except Fault as fault:
                violations.add(item_path, fault.reason, f"as a key {fault.help_message}")
                continue
            if (decoded := one(item, item_path, violations)) is not NOT_SET:
                values[read] = decoded
        return values

    return _or_null(decode)


# --- Descriptors -----------------------------------------------------------------------------------------------------


def _enter(message: Descriptor, within: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    if message in within:
        raise Unsupported(f"{message.full_name} contains itself, so that its JSON could be of any depth")
    return (*within, message)


def _map_entry(field: FieldDescriptor) -> Descriptor | None:
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def _message_of(field: FieldDescriptor) -> Descriptor:
    message = field.message_type
    assert message is not None  # noqa: S101 - every other type is a scalar
    # google.protobuf.Any, Struct, FieldMask and the wrappers have a JSON form of their own.
    if message.full_name.startswith("google.protobuf.") and message.full_name != "google.protobuf.Empty":
        raise Unsupported(f"{field.full_name} is a {message.full_name}, of which the gateway knows no JSON")
    return message
