"""Artificial contract that uses every supported feature, including those that Postroom's own contract lacks."""

import itertools
from collections.abc import Iterable

from google.api import annotations_pb2, http_pb2
from google.protobuf import (  # noqa: F401 - importing registers the dependencies in the pool
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
)
from google.protobuf.descriptor import Descriptor, ServiceDescriptor

FieldProto = descriptor_pb2.FieldDescriptorProto
_numbers = itertools.count()


def field(kind: str, name: str, number: int, *, repeated: bool = False) -> descriptor_pb2.FieldDescriptorProto:
    """Return a field. `kind` is a scalar type, or a full type name prefixed by `.` for a message or `#` for an enum."""
    label = FieldProto.LABEL_REPEATED if repeated else FieldProto.LABEL_OPTIONAL
    proto = FieldProto(name=name, number=number, label=label)
    if kind.startswith((".", "#")):
        proto.type = FieldProto.TYPE_MESSAGE if kind[0] == "." else FieldProto.TYPE_ENUM
        proto.type_name = kind.replace("#", ".")
    else:
        proto.type = FieldProto.Type.Value(f"TYPE_{kind.upper()}")
    return proto


def message(name: str, *fields: descriptor_pb2.FieldDescriptorProto) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(name=name, field=fields)


def method(
    name: str, request: str, response: str, *, streams: bool = False, **rule: object
) -> descriptor_pb2.MethodDescriptorProto:
    """Return an RPC. `rule` are the fields of its google.api.http annotation; empty for no annotation."""
    proto = descriptor_pb2.MethodDescriptorProto(
        name=name, input_type=request, output_type=response, server_streaming=streams
    )
    if rule:
        proto.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    return proto


def service(
    messages: Iterable[descriptor_pb2.DescriptorProto], methods: Iterable[descriptor_pb2.MethodDescriptorProto]
) -> ServiceDescriptor:
    """Register a file with the service `Parcels` in a new package, which `PACKAGE` in type names refers to."""
    package = f"sample{next(_numbers)}"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto",
        package=package,
        syntax="proto3",
        dependency=[
            "google/api/annotations.proto",
            "google/protobuf/duration.proto",
            "google/protobuf/empty.proto",
            "google/protobuf/struct.proto",
            "google/protobuf/timestamp.proto",
        ],
        message_type=messages,
        enum_type=[_SIZE],
        service=[descriptor_pb2.ServiceDescriptorProto(name="Parcels", method=methods)],
    )
    for each in file.message_type:
        _in_package(each, package)
    for rpc in file.service[0].method:
        rpc.input_type, rpc.output_type = (f".{package}.{name}" for name in (rpc.input_type, rpc.output_type))
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindFileByName(file.name).services_by_name["Parcels"]
    assert isinstance(found, ServiceDescriptor)
    return found


def _in_package(proto: descriptor_pb2.DescriptorProto, package: str) -> None:
    for each in proto.field:
        if each.HasField("type_name"):
            each.type_name = each.type_name.replace("PACKAGE", package)
    for nested in proto.nested_type:
        _in_package(nested, package)


_SIZE = descriptor_pb2.EnumDescriptorProto(
    name="Size",
    value=[
        descriptor_pb2.EnumValueDescriptorProto(name=name, number=number)
        for number, name in enumerate(["UNKNOWN_SIZE", "SMALL", "LARGE"])
    ],
)
STAMP = message("Stamp", field("string", "motif", 1), field("#PACKAGE.Size", "size", 2))


def _map(owner: str, name: str, number: int, key: str, value: str, proto: descriptor_pb2.DescriptorProto) -> None:
    entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
    proto.nested_type.append(
        descriptor_pb2.DescriptorProto(
            name=entry,
            field=[field(key, "key", 1), field(value, "value", 2)],
            options=descriptor_pb2.MessageOptions(map_entry=True),
        )
    )
    proto.field.append(field(f".PACKAGE.{owner}.{entry}", name, number, repeated=True))


def _parcel() -> descriptor_pb2.DescriptorProto:
    scalars = ["string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64"]
    scalars += ["fixed32", "fixed64", "sfixed32", "sfixed64", "float", "double"]
    types = [*((kind, kind) for kind in scalars), ("#PACKAGE.Size", "size"), (".PACKAGE.Stamp", "stamp")]
    types += [(".google.protobuf.Timestamp", "sent_at"), (".google.protobuf.Duration", "took")]
    proto = message(
        "Parcel",
        *(field(kind, f"a_{name}", number) for number, (kind, name) in enumerate(types, 1)),
        *(field(kind, f"some_{name}", number, repeated=True) for number, (kind, name) in enumerate(types, 101)),
    )
    for number, (kind, name) in enumerate(types, 201):
        if "." not in kind[:1]:
            proto.field.append(field(kind, f"maybe_{name}", number))
            proto.field[-1].proto3_optional = True
    # A real oneof, `label`; the synthetic oneofs of proto3 optional fields must follow the real ones.
    proto.oneof_decl.add(name="label")
    proto.field.extend([field("string", "label_text", 301), field("int32", "label_number", 302)])
    proto.field[-1].oneof_index = proto.field[-2].oneof_index = 0
    for each in proto.field:
        if each.proto3_optional:
            each.oneof_index = len(proto.oneof_decl)
            proto.oneof_decl.add(name=f"_{each.name}")
    _map("Parcel", "by_text", 401, "string", "int32", proto)
    _map("Parcel", "by_flag", 402, "bool", ".PACKAGE.Stamp", proto)
    _map("Parcel", "by_number", 403, "int64", "#PACKAGE.Size", proto)
    return proto


PARCELS = service(
    [
        STAMP,
        _parcel(),
        message("Named", field("string", "a_string", 1), field(".PACKAGE.Stamp", "stamp", 2), field("bool", "loud", 3)),
        message(
            "Wanted",
            field("string", "a_string", 1),
            field("#PACKAGE.Size", "sizes", 2, repeated=True),
            field("int64", "number", 3),
            field("bool", "flag", 4),
            field("double", "weight", 5),
            field(".google.protobuf.Timestamp", "since", 6),
            field("bytes", "seal", 7),
            field("#PACKAGE.Size", "size", 8),
            field("string", "words", 9, repeated=True),
        ),
    ],
    [
        method(
            "Send",
            "Parcel",
            "Parcel",
            post="/v1/parcels",
            body="*",
            additional_bindings=[{"put": "/v1/parcels/{a_string}", "body": "*"}],
        ),
        method("Stamp", "Named", "Named", patch="/v1/parcels/{a_string}/stamp", body="stamp"),
        method("Find", "Wanted", "Wanted", get="/v1/parcels/{a_string}"),
        method("Latest", "Wanted", "Wanted", get="/v1/parcels/latest"),
        method("Purge", "Wanted", "Wanted", custom={"kind": "PURGE", "path": "/v1/parcels/{a_string}/of/{number}"}),
        method("Internal", "Named", "Named"),
    ],
)
PARCEL: Descriptor = PARCELS.file.message_types_by_name["Parcel"]
