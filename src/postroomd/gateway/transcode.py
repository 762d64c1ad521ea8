"""Transcoding of one route: HTTP request to protobuf message, and response message to JSON."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from postroomd.gateway.json_codec import (
    FieldsDecoder,
    compile_encoder,
    field_decoder,
    list_encoders,
    parse_body,
    to_bytes,
)
from postroomd.gateway.routes import Route
from postroomd.gateway.scalars import NOT_SET, InvalidValue, Scalar, UnsupportedContract, scalar_of
from postroomd.gateway.urls import NOT_DECODABLE, parse_query, unquote
from postroomd.gateway.violations import Violations


class Transcoder:
    """Decoder of requests and encoder of responses of one route, compiled at start."""

    def __init__(self, route: Route) -> None:
        """Compile the route. Raises UnsupportedContract, for example for a message type in the query."""
        fields = route.request.fields_by_name
        remaining = [field for field in route.request.fields if field.name not in (*route.path_fields, route.body)]
        self.request_class = GetMessageClass(route.request)
        self.response_class = GetMessageClass(route.response)
        self.reads_body = bool(route.body)
        self._path = [(name, _scalar(fields[name])) for name in route.path_fields]
        self._query = {field.name: (_scalar(field), field.is_repeated) for field in remaining if route.body != "*"}
        self._decode_body = _body_decoder(route)
        self._encode = compile_encoder(route.response)
        self.lists = list_encoders(route.response)

    def decode(self, captured: Sequence[str], raw_query: str, body: bytes) -> Message:
        """Return the request message. `captured` are the variable segments of the path, percent-encoded.

        Raises InvalidArguments with the violations of path, query and body together.
        """
        violations = Violations()
        values = self._from_path(captured, violations)
        if raw_query:
            values |= self._from_query(raw_query, violations)
        if body and self.reads_body:
            values |= self._from_body(body, violations)
        violations.check()
        return self.request_class(**values)

    def encode(self, response: Message) -> bytes:
        """Return the JSON of a response message."""
        return to_bytes(self._encode(response))

    def encode_with(self, response: Message, values: Mapping[str, Any]) -> bytes:
        """Return the JSON of a response message, with these values of fields instead of its own."""
        return to_bytes({**self._encode(response), **values})

    def _from_path(self, captured: Sequence[str], violations: Violations) -> dict[str, Any]:
        values = {}
        for (name, scalar), raw in zip(self._path, captured, strict=True):
            try:
                text = unquote(raw)
            except ValueError:
                violations.add(name, "format", NOT_DECODABLE)
                continue
            values[name] = _convert(scalar, text, name, violations)
        return _without_unset(values)

    def _from_query(self, raw_query: str, violations: Violations) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, texts in parse_query(raw_query, violations).items():
            if name not in self._query:
                violations.add(name, "unknown", "is not an argument of this call")
                continue
            scalar, repeated = self._query[name]
            if not repeated and len(texts) > 1:
                violations.add(name, "format", "is given more than once")
                continue
            converted = [_convert(scalar, text, name, violations) for text in texts]
            if repeated:
                values[name] = [value for value in converted if value is not NOT_SET]
            elif converted:
                values[name] = converted[0]
        return _without_unset(values)

    def _from_body(self, body: bytes, violations: Violations) -> dict[str, Any]:
        value = parse_body(body, violations)
        if value is NOT_SET:
            return {}
        return self._decode_body(value, violations)


def _body_decoder(route: Route) -> Callable[[object, Violations], dict[str, Any]]:
    """Return the function from the body's JSON value to fields of the request."""
    if route.body in ("", "*"):
        decode_fields = FieldsDecoder(route.request, exclude=route.path_fields)
        return lambda value, violations: decode_fields(value, "", violations)
    decode_field = field_decoder(route.request.fields_by_name[route.body])
    return lambda value, violations: _without_unset({route.body: decode_field(value, route.body, violations)})


def _scalar(field: FieldDescriptor) -> Scalar:
    scalar = scalar_of(field)
    if scalar is None:
        raise UnsupportedContract(f"{field.full_name} has a message type, which only the body can carry")
    return scalar


def _convert(scalar: Scalar, text: str, name: str, violations: Violations) -> Any:
    try:
        return scalar.from_text(text)
    except InvalidValue as error:
        violations.add(name, error.reason, error.help_message)
        return NOT_SET


def _without_unset(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not NOT_SET}
