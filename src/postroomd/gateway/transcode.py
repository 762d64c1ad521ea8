"""One RPC over HTTP: the parts of a request become its message, and its answer becomes JSON."""

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from postroomd.gateway.json_codec import FieldsDecoder, compile_encoder, field_decoder, parse_body, to_bytes
from postroomd.gateway.routes import Route
from postroomd.gateway.scalars import NOT_SET, Fault, Scalar, Unsupported, scalar_of
from postroomd.gateway.urls import NOT_DECODABLE, parse_query, unquote
from postroomd.gateway.violations import Violations


class Transcoder:
    """Everything between HTTP and the messages of one route, compiled at start."""

    def __init__(self, route: Route) -> None:
        """Compile. Raises Unsupported where a field can't be where the route wants it."""
        fields = route.request.fields_by_name
        left = [field for field in route.request.fields if field.name not in (*route.path_fields, route.body)]
        self.request_class = GetMessageClass(route.request)
        self.response_class = GetMessageClass(route.response)
        self.reads_body = bool(route.body)
        self._path = [(name, _scalar(fields[name])) for name in route.path_fields]
        self._query = {field.name: (_scalar(field), field.is_repeated) for field in left if route.body != "*"}
        self._read_body = _body_reader(route)
        self._encode = compile_encoder(route.response)

    def decode(self, captured: Sequence[str], raw_query: str, body: bytes) -> Message:
        """Make the request's message of the path's segments, the query string and the body.

        Raises InvalidArguments, with every fault of all three.
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
        """Write the answer."""
        return to_bytes(self._encode(response))

    def _from_path(self, captured: Sequence[str], violations: Violations) -> dict[str, Any]:
        values = {}
        for (name, scalar), raw in zip(self._path, captured, strict=True):
            try:
                text = unquote(raw)
            except ValueError:
                violations.add(name, "format", NOT_DECODABLE)
                continue
            values[name] = _read(scalar, text, name, violations)
        return _set_ones(values)

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
            read = [_read(scalar, text, name, violations) for text in texts]
            values[name] = [value for value in read if value is not NOT_SET] if repeated else read[0]
        return _set_ones(values)

    def _from_body(self, body: bytes, violations: Violations) -> dict[str, Any]:
        value = parse_body(body, violations)
        if value is NOT_SET:
            return {}
        return self._read_body(value, violations)


def _body_reader(route: Route) -> Callable[[object, Violations], dict[str, Any]]:
    """Make the function that reads the body's JSON into fields of the request."""
    if route.body in ("", "*"):
        read_fields = FieldsDecoder(route.request, without=route.path_fields)
        return lambda value, violations: read_fields(value, "", violations)
    read_field = field_decoder(route.request.fields_by_name[route.body])
    return lambda value, violations: _set_ones({route.body: read_field(value, route.body, violations)})


def _scalar(field: FieldDescriptor) -> Scalar:
    scalar = scalar_of(field)
    if scalar is None:
        raise Unsupported(f"{field.full_name} is an object, which only a body can hold")
    return scalar


def _read(scalar: Scalar, text: str, name: str, violations: Violations) -> Any:
    try:
        return scalar.from_text(text)
    except Fault as fault:
        violations.add(name, fault.reason, fault.help_message)
        return NOT_SET


def _set_ones(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not NOT_SET}
