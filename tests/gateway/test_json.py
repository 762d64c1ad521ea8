"""JSON encoding and decoding of messages."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.v1alpha1.alias_pb2 import CreateAliasRequest, UpdateAliasRequest
from postroom.v1alpha1.domain_pb2 import Domain, DomainRecord, GetDomainRecordsResponse
from postroom.v1alpha1.mailbox_pb2 import BatchCreateMailboxesRequest, ListMailboxesRequest, Mailbox
from postroomd.gateway.json_codec import FieldsDecoder, compile_encoder, parse_body, to_bytes
from postroomd.gateway.scalars import NOT_SET
from postroomd.gateway.violations import MAX_VIOLATIONS, InvalidArguments, Violation, Violations
from tests.gateway.contract import FIELDS, MESSAGES, entry_of, messages, owner_of
from tests.gateway.parcel_contract import PARCEL

EVERY_MESSAGE = [*MESSAGES, PARCEL]
for_every_message = pytest.mark.parametrize("descriptor", EVERY_MESSAGE, ids=lambda descriptor: descriptor.name)
few_examples = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def type_of(message: Message) -> Any:
    return message.DESCRIPTOR


def encode(message: Message) -> Any:
    return json.loads(to_bytes(compile_encoder(type_of(message))(message)))


def decode(descriptor: Descriptor, body: str | bytes) -> Message:
    """Decode a body. Raises InvalidArguments."""
    violations = Violations()
    value = parse_body(body if isinstance(body, bytes) else body.encode(), violations)
    fields = {} if value is NOT_SET else FieldsDecoder(descriptor)(value, "", violations)
    violations.check()
    return GetMessageClass(descriptor)(**fields)


def violations_of(descriptor: Descriptor, body: str | bytes) -> dict[str, str]:
    """Return argument name -> reason for a body that is rejected."""
    with pytest.raises(InvalidArguments) as caught:
        decode(descriptor, body)
    assert all(violation.help_message for violation in caught.value.violations)
    return {violation.argument_name: violation.reason for violation in caught.value.violations}


def oracle(message: Message) -> Any:
    """Return the output of google.protobuf.json_format, adapted to Postroom's rules."""
    values = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _adapted(type_of(message), values)


def _adapted(descriptor: Descriptor, values: dict[str, Any]) -> dict[str, Any]:
    adapted: dict[str, Any] = {}
    for field in descriptor.fields:
        value: Any = values.get(field.name)
        if entry := entry_of(field):
            adapted[field.name] = {key: _one(entry.fields_by_name["value"], each) for key, each in value.items()}
        elif field.is_repeated:
            adapted[field.name] = [_one(field, each) for each in value]
        elif value is not None:
            adapted[field.name] = _one(field, value)
        elif field.message_type is not None and not is_optional(field):
            adapted[field.name] = None
    return adapted


def is_optional(field: FieldDescriptor) -> bool:
    """Whether a field is declared `optional`."""
    declared = DescriptorProto()
    assert field.containing_type is not None
    field.containing_type.CopyToProto(declared)
    return any(each.name == field.name and each.proto3_optional for each in declared.field)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return value.lower()
    if field.message_type is not None:
        if isinstance(value, dict):
            return _adapted(field.message_type, value)
        return _shortest(value)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return int(value)
    return pytest.approx(value) if isinstance(value, float) else value


def _shortest(text: str) -> str:
    """Return a timestamp or a duration without trailing zeros in its fraction."""
    digits, unit = text[:-1], text[-1]
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + unit


def without_trailing_zeros(value: Any) -> Any:
    """Return the JSON value with `_shortest` applied to its timestamps."""
    if isinstance(value, dict):
        return {key: without_trailing_zeros(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_trailing_zeros(each) for each in value]
    return _shortest(value) if isinstance(value, str) and value[4:5] == "-" and value.endswith("Z") else value


@for_every_message
@few_examples
@given(data=st.data())
def test_json_equals_json_format_and_round_trips(descriptor: Descriptor, data: st.DataObject) -> None:
    message = data.draw(messages(descriptor))
    written = to_bytes(compile_encoder(descriptor)(message))
    assert without_trailing_zeros(json.loads(written)) == without_trailing_zeros(oracle(message))
    assert decode(descriptor, written) == message


@for_every_message
def test_an_empty_message_lacks_only_its_optional_fields(descriptor: Descriptor) -> None:
    encoded = encode(GetMessageClass(descriptor)())
    fields = [
        field
        for field in descriptor.fields
        if not field.has_presence or (field.message_type is not None and not is_optional(field))
    ]
    assert list(encoded) == [field.name for field in fields]
    for field in fields:
        if field.has_presence:
            assert encoded[field.name] is None
        elif field.is_repeated:
            assert encoded[field.name] == ({} if entry_of(field) else [])
        elif field.enum_type is not None:
            assert encoded[field.name] == field.enum_type.values[0].name.lower()
        else:
            assert encoded[field.name] in ("", 0, False)


def test_the_error_of_a_record_is_absent_until_it_is_set() -> None:
    assert "error" not in encode(DomainRecord(dns_name="a.example."))
    assert encode(DomainRecord(error=""))["error"] == ""
    assert encode(DomainRecord(error="not found"))["error"] == "not found"
    assert encode(DomainRecord())["created_at"] is None


def test_the_records_of_a_rotation_are_absent_without_one() -> None:
    assert len(encode(GetDomainRecordsResponse())) == 12
    assert encode(GetDomainRecordsResponse(dkim_next=DomainRecord(id="1")))["dkim_next"]["id"] == "1"


ENUMS = sorted({field.enum_type.full_name: field.enum_type for field in FIELDS if field.enum_type}.items())


@pytest.mark.parametrize("enum", [enum for _, enum in ENUMS], ids=lambda enum: enum.full_name)
def test_enum_values_are_lower_case_names(enum: Any) -> None:
    field = next(field for field in FIELDS if field.enum_type is enum)
    owner = owner_of(field)
    for value in enum.values:
        message = GetMessageClass(owner)()
        if field.is_repeated:
            getattr(message, field.name).append(value.number)
            assert encode(message)[field.name] == [value.name.lower()]
        else:
            setattr(message, field.name, value.number)
            assert encode(message)[field.name] == value.name.lower()
        given = json.dumps({field.name: [value.name.lower()] if field.is_repeated else value.name.lower()})
        assert decode(owner, given) == (message if value.number else GetMessageClass(owner)())


def test_an_unknown_enum_number_is_the_zero_value() -> None:
    assert encode(Mailbox(status=99))["status"] == "unknown_status"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "nanos", "written"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1_769_860_800, 0, "2026-01-31T12:00:00Z"),
        (1_769_860_800, 120_000_000, "2026-01-31T12:00:00.120000Z"),
        (1_769_860_800, 123_456_789, "2026-01-31T12:00:00.123456Z"),
        (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
        (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999Z"),
        (-1, 500_000_000, "1969-12-31T23:59:59.500000Z"),
    ],
)
def test_timestamps_are_utc_with_z(seconds: int, nanos: int, written: str) -> None:
    domain = Domain(created_at={"seconds": seconds, "nanos": nanos})  # type: ignore[arg-type]
    assert encode(domain)["created_at"] == written


@pytest.mark.parametrize(
    ("written", "seconds", "nanos"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800, 0),
        ("2026-01-31t13:00:00.5+01:00", 1_769_860_800, 500_000_000),
        ("2026-01-31T12:00:00.123456789z", 1_769_860_800, 123_456_789),
    ],
)
def test_timestamps_of_any_offset_are_accepted(written: str, seconds: int, nanos: int) -> None:
    message: Any = decode(PARCEL, json.dumps({"a_sent_at": written}))
    assert (message.a_sent_at.seconds, message.a_sent_at.nanos) == (seconds, nanos)


BATCH, ALIAS, LIST = (
    BatchCreateMailboxesRequest.DESCRIPTOR,
    CreateAliasRequest.DESCRIPTOR,
    ListMailboxesRequest.DESCRIPTOR,
)


@pytest.mark.parametrize(
    ("descriptor", "body", "expected"),
    [
        # The body as a whole
        (ALIAS, b"\xff\xfe", {"body": "format"}),
        (ALIAS, '{"local_part": "\xe9"}'.encode("latin-1"), {"body": "format"}),
        (ALIAS, "\ufeff\ufeff{}", {"body": "format"}),
        (ALIAS, " \ufeff{}", {"body": "format"}),
        (ALIAS, "{}".encode("utf-16"), {"body": "format"}),
        (ALIAS, "nonsense", {"body": "format"}),
        (ALIAS, '{"local_part": "a"', {"body": "format"}),
        (ALIAS, '{"local_part": "a"} {}', {"body": "format"}),
        (ALIAS, "{'local_part': 'a'}", {"body": "format"}),
        (ALIAS, '{"local_part": "a\nb"}', {"body": "format"}),
        (ALIAS, "[" * 100_000, {"body": "format"}),
        (ALIAS, '{"a":' * 100_000, {"body": "format"}),
        *[(ALIAS, body, {"body": "format"}) for body in ("null", "[]", "1", '"text"', "true", "NaN", "[{}]")],
        # Names
        (ALIAS, '{"mailboxId": "a"}', {"mailboxId": "unknown"}),
        (ALIAS, '{"": 1, "b": null, "Local_Part": 1}', {"": "unknown", "b": "unknown", "Local_Part": "unknown"}),
        (ALIAS, '{"\\ud800": 1}', {"?": "unknown"}),
        (ALIAS, json.dumps({"n" * 5000: 1}), {"n" * 200: "unknown"}),
        (ALIAS, '{"local_part": "a", "local_part": "a"}', {"local_part": "format"}),
        (ALIAS, '{"x": 1, "x": 1}', {"x": "unknown"}),
        (BATCH, '{"mailboxes": [{"x": 1}]}', {"mailboxes[0].x": "unknown"}),
        (BATCH, '{"mailboxes": [{}, {"password": "a", "password": "b"}]}', {"mailboxes[1].password": "format"}),
        # Types
        *[
            (ALIAS, f'{{"local_part": {value}}}', {"local_part": "format"})
            for value in ("1", "true", "[]", "{}", "NaN")
        ],
        (ALIAS, '{"local_part": "\\ud800"}', {"local_part": "format"}),
        (ALIAS, '{"local_part": "\\udc00\\ud800"}', {"local_part": "format"}),
        *[(BATCH, f'{{"mailboxes": {value}}}', {"mailboxes": "format"}) for value in ("1", '"a"', "{}", "false")],
        *[(BATCH, f'{{"mailboxes": [{value}]}}', {"mailboxes[0]": "format"}) for value in ("1", '"a"', "null", "[]")],
        *[(LIST, f'{{"page": {value}}}', {"page": "format"}) for value in ('"1"', "1.0", "1e3", "true", "[1]", "NaN")],
        *[
            (LIST, f'{{"page": {value}}}', {"page": "format"})
            for value in ("Infinity", "-Infinity", "1e999", "9" * 5000)
        ],
        *[(LIST, f'{{"page": {value}}}', {"page": "constraint"}) for value in (2**31, -(2**31) - 1, 2**63, "9" * 300)],
        *[(LIST, f'{{"order_by": {value}}}', {"order_by": "format"}) for value in ("0", "1", "[]", "true")],
        *[(LIST, f'{{"order_by": "{name}"}}', {"order_by": "constraint"}) for name in ("", "EMAIL_ASC", "email", "é")],
        (
            LIST,
            '{"statuses": ["ready", "asleep", 3, null]}',
            {f"statuses[{n}]": r for n, r in [(1, "constraint"), (2, "format"), (3, "format")]},
        ),
        (LIST, '{"statuses": "ready"}', {"statuses": "format"}),
        (LIST, f'{{"statuses": [{"0," * 10_000}0]}}', {"statuses": "constraint"}),
        # Several at once
        (
            BATCH,
            '{"domain_id": 1, "mailboxes": [{"local_part": 1}, {}, {"password": [], "age": 1}], "x": 0}',
            {
                "domain_id": "format",
                "mailboxes[0].local_part": "format",
                "mailboxes[2].password": "format",
                "mailboxes[2].age": "unknown",
                "x": "unknown",
            },
        ),
        # Types that only the parcel contract has
        *[(PARCEL, f'{{"a_bool": {value}}}', {"a_bool": "format"}) for value in ("0", "1", '"true"')],
        *[(PARCEL, f'{{"a_bytes": "{value}"}}', {"a_bytes": "format"}) for value in ("a", "a===", "-_-_", "a b=", "é")],
        (
            PARCEL,
            f'{{"a_uint32": -1, "a_int64": {2**63}, "a_uint64": {2**64}}}',
            dict.fromkeys(["a_uint32", "a_int64", "a_uint64"], "constraint"),
        ),
        (PARCEL, '{"a_float": 1e39, "a_double": 1e999}', {"a_float": "constraint", "a_double": "constraint"}),
        (PARCEL, '{"a_float": NaN, "a_double": -Infinity}', {"a_float": "constraint", "a_double": "constraint"}),
        (PARCEL, f'{{"a_double": {"9" * 400}}}', {"a_double": "constraint"}),
        (PARCEL, f'{{"a_double": {"9" * 5000}}}', {"a_double": "constraint"}),
        (PARCEL, '{"a_double": true, "a_float": "1"}', {"a_double": "format", "a_float": "format"}),
        *[
            (PARCEL, f'{{"a_sent_at": "{value}"}}', {"a_sent_at": "format"})
            for value in ("", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00", "2026-01-31T12:00:00.Z")
        ],
        *[
            (PARCEL, f'{{"a_sent_at": "{value}"}}', {"a_sent_at": "format"})
            for value in (
                "2026-01-31T24:00:00Z",
                "2026-01-31T12:00:60Z",
                "0001-01-01T00:00:00+01:00",
                "2026-01-31T12:00:00+99:99",
            )
        ],
        *[
            (PARCEL, f'{{"a_took": "{value}"}}', {"a_took": "format"})
            for value in ("", "1", "s", "1.s", "315576000001s")
        ],
        (PARCEL, '{"a_took": 1, "a_sent_at": 1}', {"a_took": "format", "a_sent_at": "format"}),
        (PARCEL, '{"by_text": [], "by_flag": {"yes": {}}}', {"by_text": "format", "by_flag.yes": "format"}),
        (PARCEL, '{"by_text": {"a": "1", "b": 1, "b": 1}}', {"by_text.a": "format", "by_text.b": "format"}),
        (
            PARCEL,
            '{"by_number": {"1.0": "small", "2": "tiny"}}',
            {"by_number.1.0": "format", "by_number.2": "constraint"},
        ),
        (PARCEL, '{"by_flag": {"true": {"motif": 1}}}', {"by_flag.true.motif": "format"}),
        (PARCEL, '{"label_text": "a", "label_number": 1}', {"label_number": "constraint"}),
    ],
)
def test_each_violation_is_named(descriptor: Descriptor, body: str | bytes, expected: dict[str, str]) -> None:
    assert violations_of(descriptor, body) == expected


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.full_name)
def test_every_field_rejects_wrong_types_and_accepts_null(field: FieldDescriptor) -> None:
    owner = owner_of(field)
    wrong = "[1]" if field.is_repeated or field.message_type is None else '"a"'
    expected = f"{field.name}[0]" if field.is_repeated else field.name
    assert violations_of(owner, f'{{"{field.name}": {wrong}}}') == {expected: "format"}
    assert decode(owner, f'{{"{field.name}": null}}') == GetMessageClass(owner)()


def test_a_byte_order_mark_before_json_is_skipped() -> None:
    assert decode(ALIAS, '\ufeff{"local_part": "ann"}') == CreateAliasRequest(local_part="ann")


@pytest.mark.parametrize(
    ("value", "help_message"), [(2**31, "must be at most 2147483647"), ('"x"', "must be an integer")]
)
def test_the_help_message_of_an_integer_names_the_exceeded_bound(value: object, help_message: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        decode(LIST, f'{{"page": {value}}}')
    assert [violation.help_message for violation in caught.value.violations] == [help_message]


def test_optional_fields_distinguish_unset_from_empty() -> None:
    assert not decode(UpdateAliasRequest.DESCRIPTOR, '{"description": null}').HasField("description")
    assert decode(UpdateAliasRequest.DESCRIPTOR, '{"description": ""}').HasField("description")


def test_the_zero_value_of_an_enum_is_dropped_from_a_list() -> None:
    assert decode(LIST, '{"statuses": ["unknown_status", "locked"]}') == ListMailboxesRequest(statuses=[Mailbox.LOCKED])


def test_help_messages_never_contain_the_value() -> None:
    secret = "correct horse battery staple"
    bodies = [
        (
            LIST,
            {"order_by": secret, "statuses": [secret], "page": secret, "domain_id": [secret], "search": {secret: 1}},
        ),
        (BATCH, {"mailboxes": [{"password": [secret]}, {"password": {"a": secret}}, secret]}),
        (PARCEL, {"a_bytes": secret, "a_sent_at": secret, "a_took": secret, "a_bool": secret, "a_double": secret}),
    ]
    for descriptor, body in bodies:
        with pytest.raises(InvalidArguments) as caught:
            decode(descriptor, json.dumps(body))
        assert secret not in repr(caught.value.violations)
        assert secret not in str(caught.value)


def test_the_help_message_of_an_enum_lists_its_values() -> None:
    with pytest.raises(InvalidArguments) as caught:
        decode(LIST, '{"order_by": "size"}')
    accepted = "created_at_desc, created_at_asc, updated_at_desc, updated_at_asc, email_desc, email_asc"
    assert caught.value.violations == (Violation("order_by", "constraint", f"must be one of {accepted}"),)


def test_the_number_of_reported_violations_is_bounded() -> None:
    with pytest.raises(InvalidArguments) as caught:
        decode(ALIAS, json.dumps(dict.fromkeys(map(str, range(5000)))))
    assert len(caught.value.violations) == MAX_VIOLATIONS
