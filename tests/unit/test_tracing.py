"""Traces: when they are on, what a parent is, and how statements are named."""

from collections.abc import Mapping

import pytest
from opentelemetry.trace import get_current_span

from postroomd.observability.tracing import MAX_TRACESTATE_LENGTH, parent_of, statement_attributes
from postroomd.runtime.errors import FatalError
from postroomd.runtime.tracing import is_traced
from postroomd.settings import InvalidSetting, load_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
    ],
)
def test_an_endpoint_switches_tracing_on(environment: Mapping[str, str], expected: bool) -> None:
    assert is_traced(load_settings({}), environment) is expected


def test_the_setting_switches_tracing_on() -> None:
    settings = load_settings({"otlp_endpoint": "HTTPS://Collector.example:4317/"})
    assert settings.otlp_endpoint == "https://collector.example:4317"
    assert is_traced(settings, {})
    assert not is_traced(settings, {"OTEL_SDK_DISABLED": "true"})


@pytest.mark.parametrize(
    "text", ["collector:4317", "http://u:secret@collector", "http://collector/v1/traces", "ftp://x"]
)
def test_an_invalid_endpoint_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^--otlp-endpoint: expected a URL such as") as refused:
        load_settings({"otlp_endpoint": text})
    assert text not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_what_is_not_supported_is_one_line(variable: str, value: str) -> None:
    with pytest.raises(FatalError, match=f"{value} is not supported"):
        is_traced(load_settings({}), {**ENDPOINT, variable: value})


@pytest.mark.parametrize(
    ("headers", "has_parent"),
    [
        ([("traceparent", TRACEPARENT)], True),
        ([("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("tracestate", "b=2")], True),
        ([("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)], False),
        ([("traceparent", TRACEPARENT.encode())], False),
        ([("traceparent", "00-0-0-01")], False),
        ([("tracestate", "a=1")], False),
        ([], False),
    ],
)
def test_a_parent_is_named_by_one_valid_header(headers: list[tuple[str, str | bytes]], has_parent: bool) -> None:
    assert get_current_span(parent_of(headers)).get_span_context().is_valid is has_parent


def test_the_state_of_vendors_is_passed_on_unless_it_is_too_long() -> None:
    def state(*values: str) -> str:
        headers = [("traceparent", TRACEPARENT), *(("tracestate", value) for value in values)]
        return get_current_span(parent_of(headers)).get_span_context().trace_state.to_header()

    assert state("a=1", "b=2") == "a=1,b=2"
    assert state("a=" + "x" * MAX_TRACESTATE_LENGTH) == ""


@pytest.mark.parametrize(
    ("sql", "name", "table"),
    [
        ("SELECT mailboxes.id \nFROM mailboxes WHERE id = ?", "SELECT mailboxes", "mailboxes"),
        ("WITH found AS (SELECT 1 FROM api_keys) SELECT id FROM found", "SELECT api_keys", "api_keys"),
        ("INSERT INTO mailboxes (id) VALUES (?)", "INSERT mailboxes", "mailboxes"),
        ('UPDATE "domains" SET name = ?', "UPDATE domains", "domains"),
        ("DELETE FROM aliases WHERE id = ?", "DELETE aliases", "aliases"),
        ("SELECT set_config('role', $1, true)", "SELECT", None),
        ("", "?", None),
    ],
)
def test_a_statement_is_named_by_operation_and_table(sql: str, name: str, table: str | None) -> None:
    assert statement_attributes("sqlite", sql)[0] == name
    assert statement_attributes("sqlite", sql)[1].get("db.collection.name") == table
