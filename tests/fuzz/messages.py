"""Request messages and JSON values from the descriptors: valid ones, and mutations that know the fields."""

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.mutations import INTERESTING_TEXTS, hostile_text, mutated

PASSWORD = "marked password! of the fuzzer"  # with characters that no request id has: it must never be logged

Ids = Mapping[str, str]
"""The ids of existing resources by type, such as `mailbox`."""

INTEGERS = (0, 1, 2, 50, 100, 1_000, 1_001, -1, 2**31 - 1, -(2**31))
HUGE_INTEGERS = (2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**30)


def _domain_name(random: Random) -> str:
    return f"fuzz{random.randrange(10**9)}.example"


def _local_part(random: Random) -> str:
    return f"fuzz{random.randrange(10**9)}"


VALID_TEXTS: Mapping[str, Callable[[Random], str]] = {
    "name": _domain_name,
    "local_part": _local_part,
    "email": lambda random: f"{_local_part(random)}@destination.example",
    "password": lambda _: PASSWORD,
    "new_password": lambda _: PASSWORD,
    "description": lambda _: "of the fuzzer",
    "search": lambda _: "fuzz",
    "etag": lambda random: random.choice(("", "1", "1a")),
    "page_token": lambda _: "",
    "reason": lambda _: "of the fuzzer",
}


def _valid_value(random: Random, field: FieldDescriptor, ids: Ids) -> Any:
    if field.message_type is not None:
        return valid_message(random, field.message_type, ids)
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        return random.randint(0, 3)
    if field.name.endswith("_id"):
        return ids.get(field.name.removesuffix("_id"), "00000000-0000-4000-8000-000000000000")
    make = VALID_TEXTS.get(field.name)
    text = make(random) if make else "fuzz"
    return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text


def valid_message(random: Random, descriptor: Descriptor, ids: Ids) -> Message:
    """Return a message with most fields set: a request that would do something."""
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        is_needed = field.name.endswith("_id") or field.name in ("name", "local_part", "password", "mailboxes")
        if random.random() > (0.95 if is_needed else 0.4):
            continue
        if field.is_repeated:
            _add(message, field, [_valid_value(random, field, ids) for _ in range(random.randint(1, 3))])
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_valid_value(random, field, ids))
        else:
            setattr(message, field.name, _valid_value(random, field, ids))
    return message  # type: ignore[no-any-return]


def _add(message: Message, field: FieldDescriptor, values: Sequence[Any]) -> None:
    getattr(message, field.name).extend(values)


# --- Protobuf --------------------------------------------------------------------------------------------------------


def message_bytes(random: Random, descriptor: Descriptor, ids: Ids) -> bytes:
    """Return the bytes of a request: valid, with hostile values, or with a mutated encoding."""
    message = valid_message(random, descriptor, ids)
    kind = random.random()
    if kind < 0.1:
        return message.SerializeToString()
    if kind < 0.4:
        _make_hostile(random, message)
        return message.SerializeToString()
    if kind < 0.8:
        return mutated(random, message.SerializeToString())
    return random.choice(_ENCODINGS)(random, message.SerializeToString())


def _make_hostile(random: Random, message: Any) -> None:
    """Set some fields to hostile values of their type."""
    for field in message.DESCRIPTOR.fields:
        if random.random() > 0.4:
            continue
        if field.is_repeated:
            values = list(getattr(message, field.name))
            del getattr(message, field.name)[:]
            for value in values:
                if isinstance(value, Message):
                    _make_hostile(random, value)
            hostile = [_hostile_value(random, field)] if field.message_type is None else []
            _add(message, field, (values + hostile) * random.choice((0, 1, 1, 2, 101)))
        elif field.message_type is not None:
            _make_hostile(random, getattr(message, field.name))
        else:
            setattr(message, field.name, _hostile_value(random, field))


def _hostile_value(random: Random, field: FieldDescriptor) -> Any:
    if field.enum_type is not None:  # enums of proto3 are open
        return random.choice((0, 1, 7, 99, -1, 2**31 - 1))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = hostile_text(random)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    signed = field.cpp_type not in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    return random.choice(INTEGERS if signed else INTEGERS[:7])


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def varint(value: int) -> bytes:
    """Return the encoding of an unsigned number."""
    encoded = bytearray()
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    return bytes([*encoded, value])


_ENCODINGS: Sequence[Callable[[Random, bytes], bytes]] = (
    lambda random, valid: random.randbytes(random.randint(0, 64)),
    lambda random, valid: valid + _tag(random.randint(1, 20), random.randrange(8)) + random.randbytes(3),
    lambda random, valid: valid + _tag(random.randint(1, 20), 2) + varint(random.choice((1, 2**31, 2**63))),
    lambda random, valid: valid + _tag(random.randint(1, 20), 0) + b"\xff" * random.choice((9, 10, 11, 1_000)),
    lambda random, valid: valid + _tag(random.randint(1, 20), 2) + b"\2\xc3\x28",  # not UTF-8
    lambda random, valid: valid + _tag(random.randint(1, 20), 3) * random.choice((1, 200, 5_000)),  # nested groups
    lambda random, valid: valid + _tag(536_870_911, 2) + b"\0" * 9,
    lambda random, valid: valid * random.choice((2, 3, 50)),
    lambda random, valid: b"\0" + valid,
)


# --- JSON ------------------------------------------------------------------------------------------------------------


def json_bytes(random: Random, descriptor: Descriptor, ids: Ids) -> bytes:
    """Return a JSON body for a request message: valid, with hostile values, or with mutated bytes."""
    value = json_value(valid_message(random, descriptor, ids))
    kind = random.random()
    if kind < 0.1:
        return json.dumps(value).encode()
    if kind < 0.6:
        return _json_text(random, _hostile_json(random, value)).encode("utf-8", "surrogatepass")
    if kind < 0.85:
        return mutated(random, json.dumps(value).encode())
    return random.choice(_BODIES)(random, json.dumps(value))


def json_value(message: Message) -> dict[str, Any]:
    """Return a message as the REST contract writes it: enum values in lower case."""
    return {field.name: _json_field(field, value) for field, value in message.ListFields()}


def _json_field(field: FieldDescriptor, value: Any) -> Any:
    if field.is_repeated:
        return [_json_item(field, item) for item in value]
    return _json_item(field, value)


def _json_item(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return json_value(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name.lower()
    return value.decode() if isinstance(value, bytes) else value


def _hostile_json(random: Random, value: Any) -> Any:
    """Return the value with some parts replaced, added, removed or repeated."""
    if random.random() < 0.15:
        return _hostile_item(random, value)
    if isinstance(value, dict):
        items = [(name, _hostile_json(random, item)) for name, item in value.items() if random.random() < 0.9]
        if random.random() < 0.15:
            items.append((hostile_text(random, "name"), _hostile_item(random, None)))
        return dict(items)
    if isinstance(value, list):
        return [_hostile_json(random, item) for item in value] * random.choice((0, 1, 1, 1, 1, 2, 60, 101))
    return value


def _hostile_item(random: Random, value: Any) -> Any:
    choices: tuple[Any, ...] = (
        None, True, False, [], {}, [value], [[value]], {"value": value}, 0, -1, 1.5, 1e308, float("nan"), float("inf"),
        random.choice(HUGE_INTEGERS), 10**400, 10**4_400 if random.random() < 0.2 else 0, "\ud800", "\udc00\ud800",
        hostile_text(random, value if isinstance(value, str) else ""), random.choice(INTERESTING_TEXTS),
    )  # fmt: skip
    return random.choice(choices)


def _json_text(random: Random, value: Any) -> str:
    text = json_dumps(value, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.1 and isinstance(value, dict) and value:  # a duplicate key
        name = random.choice(list(value))
        return f"{text[:-1]}, {json.dumps(name)}: {json_dumps(value[name])}}}"
    return text


def json_dumps(value: Any, *, ensure_ascii: bool = True) -> str:
    """Return JSON text, in which integers may have any number of digits."""
    if isinstance(value, dict):
        items = (f"{json.dumps(name, ensure_ascii=ensure_ascii)}: {json_dumps(item)}" for name, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(json_dumps(item) for item in value)}]"
    if type(value) is int and abs(value) >= 10**400:
        return "9" * 4_401  # more than str() converts
    return json.dumps(value, ensure_ascii=ensure_ascii)


_BODIES: Sequence[Callable[[Random, str], bytes]] = (
    lambda random, text: b"",
    lambda random, text: text.encode("utf-8-sig"),
    lambda random, text: text.encode(random.choice(("utf-16", "utf-32", "utf-16-le", "utf-7"))),
    lambda random, text: random.choice((b"[", b'{"a":', b"[{}")).__mul__(random.choice((2, 500, 100_000))),
    lambda random, text: b"[" + b"{}," * random.choice((10, 9_999, 20_000)) + b"{}]",
    lambda random, text: text.encode() + b" " * random.choice((1, 70_000)),
    lambda random, text: text.encode() + text.encode(),
    lambda random, text: text.replace(": ", ":\n\t").encode(),
    lambda random, text: text.replace('"', "'").encode(),
    lambda random, text: random.choice((b"null", b"true", b"0", b'""', b"[]", b"NaN", b"-Infinity", b"{", b"\xff")),
    lambda random, text: b'{"mailboxes": [' + b'{"local_part": 1},' * 5_000 + b"{}]}",
    lambda random, text: random.randbytes(random.randint(1, 200)),
)
