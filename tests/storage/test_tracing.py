"""Spans of reads, transactions and statements, on both engines."""

from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import WORKER
from postroomd.observability.tracing import Tracer
from postroomd.storage.database import Database
from postroomd.storage.opening import open_database
from postroomd.storage.traced_database import TracedDatabase
from tests.support.stores import Store


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(provider.get_tracer("tests"))


def tree(exporter: InMemorySpanExporter) -> list[tuple[str, str]]:
    """Return the name of each span and that of its parent, in the order in which they ended."""
    spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans if span.context}
    return [(span.name, names[span.parent.span_id] if span.parent else "") for span in spans]


async def update(connection: AsyncConnection) -> None:
    await connection.execute(text("UPDATE domains SET name = :name WHERE name = :name"), {"name": "secret.example"})


async def select(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT name FROM domains"))


async def fail(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT nothing FROM domains"))


async def test_spans_follow_the_structure_of_the_transactions(
    store: Store, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    database = open_database(store.url, traced=True)
    with tracer.server_span("call", (), {}) as span:
        context = replace(WORKER, span=span)
        await database.write(update, context)
        await database.read(select, context)
        with pytest.raises(DBAPIError):
            await database.write(fail, context)
    await database.write(update, WORKER)  # without a span: none is started
    await database.close()
    assert tree(exporter) == [
        ("UPDATE domains", "transaction"),
        ("transaction", "call"),
        ("SELECT domains", "read transaction"),
        ("read transaction", "call"),
        ("SELECT domains", "transaction"),
        ("transaction", "call"),
        ("call", ""),
    ]
    failed = [each.name for each in exporter.get_finished_spans() if each.status.status_code is StatusCode.ERROR]
    assert failed == ["SELECT domains", "transaction"]
    assert "secret" not in "".join(each.to_json() for each in exporter.get_finished_spans())


async def test_only_a_traced_repository_has_a_traced_database(store: Store) -> None:
    for traced, kind in ((False, Database), (True, TracedDatabase)):
        database = open_database(store.url, traced=traced)
        assert type(database) is kind
        await database.close()
