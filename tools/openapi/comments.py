"""Comments of the contract, and the limits that they state in fixed phrases."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

Path = tuple[int, ...]
# Field numbers of descriptor.proto, of which the paths of SourceCodeInfo consist.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE, _SERVICE_METHOD = 2, 2

_UUID = re.compile(r"\bUUID\b")
_RANGE = re.compile(r"\b(\d+) to (\d+)( characters| octets)?")
_AT_MOST = re.compile(r"[Aa]t most (\d+) (?:characters|octets)")
_ZERO = re.compile(r"\b0 means\b")


class Comments:
    """Leading comments by the full names of what they describe."""

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self._texts: dict[str, str] = {}
        for file in descriptors.file:
            texts = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
            for path, name in _names(file):
                self._texts[name] = _reflow(texts.get(path, ""))

    def __getitem__(self, full_name: str) -> str:
        """Return the comment of a message, field, enum, value, service or method as one paragraph; empty if none."""
        return self._texts.get(full_name, "")


def _names(file: FileDescriptorProto) -> Iterator[tuple[Path, str]]:
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield (_FILE_SERVICE, index), name
        for place, method in enumerate(service.method):
            yield (_FILE_SERVICE, index, _SERVICE_METHOD, place), f"{name}.{method.name}"
    yield from _enums(file.enum_type, (_FILE_ENUM,), file.package)
    yield from _messages(file.message_type, (_FILE_MESSAGE,), file.package)


def _messages(messages: Sequence[DescriptorProto], prefix: Path, scope: str) -> Iterator[tuple[Path, str]]:
    for index, message in enumerate(messages):
        path, name = (*prefix, index), f"{scope}.{message.name}"
        yield path, name
        for place, field in enumerate(message.field):
            yield (*path, _MESSAGE_FIELD, place), f"{name}.{field.name}"
        yield from _enums(message.enum_type, (*path, _MESSAGE_ENUM), name)
        yield from _messages(message.nested_type, (*path, _MESSAGE_NESTED), name)


def _enums(enums: Iterable[EnumDescriptorProto], prefix: Path, scope: str) -> Iterator[tuple[Path, str]]:
    for index, enum in enumerate(enums):
        path, name = (*prefix, index), f"{scope}.{enum.name}"
        yield path, name
        for place, value in enumerate(enum.value):
            yield (*path, _ENUM_VALUE, place), f"{name}.{value.name}"


def _reflow(text: str) -> str:
    return " ".join(text.split())


def string_limits(comment: str) -> Mapping[str, Any]:
    """Return the JSON Schema keywords of a string: `a UUID`, `12 to 128 characters`, `At most 320 characters`."""
    if _UUID.search(comment):
        return {"format": "uuid"}
    found = _RANGE.search(comment)
    if found and found[3]:
        return {"minLength": int(found[1]), "maxLength": int(found[2])}
    limit = _AT_MOST.search(comment)
    return {"maxLength": int(limit[1])} if limit else {}


def integer_limits(comment: str) -> Mapping[str, Any]:
    """Return the keywords of an integer: `1 to 1000`, with 0 if `0 means` the default."""
    found = _RANGE.search(comment)
    lowest = {"minimum": 0} if _ZERO.search(comment) else {}
    return {"minimum": int(found[1]), "maximum": int(found[2]), **lowest} if found else lowest


def list_limits(comment: str) -> Mapping[str, Any]:
    """Return the keywords of a list: `1 to 100`."""
    found = _RANGE.search(comment)
    return {"minItems": int(found[1]), "maxItems": int(found[2])} if found else {}
