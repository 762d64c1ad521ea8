"""docs/lifecycle.md says what the transition tables do."""

import re
from pathlib import Path

import pytest

from tools.lifecycle_diagram import LIFECYCLES, Edge, edges_of, rewritten

DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycle.md"
ARROW = re.compile(r"^    (\S+) --> (\S+): (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| .+\. \|$", re.MULTILINE)
OUTSIDE = {"[*]", "(new)", "(gone)"}


def test_the_document_is_as_the_tables_would_have_it_written() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run `make diagram`"


def told(resource: str) -> str:
    """What the document says of a resource's lifecycle."""
    begin = f"<!-- lifecycle of {resource}: make diagram -->"
    return DOCUMENT.read_text(encoding="utf-8").partition(begin)[2].partition("<!-- end")[0]


def status(text: str) -> str | None:
    return None if text in OUTSIDE else text.strip("`")


@pytest.mark.parametrize("resource", LIFECYCLES)
def test_the_diagrams_have_every_transition_and_no_other(resource: str) -> None:
    lifecycle = LIFECYCLES[resource]
    drawn = {
        (event, status(before), status(after))
        for before, after, events in ARROW.findall(told(resource))
        for event in events.split(", ")
    }
    assert drawn == {
        (event, before, after)
        for event, ways in lifecycle.table.items()
        for before, following in ways.items()
        for after in following
    }


@pytest.mark.parametrize("resource", LIFECYCLES)
def test_the_tables_have_every_event_with_its_statuses(resource: str) -> None:
    lifecycle = LIFECYCLES[resource]
    listed = {
        event: (set(map(status, before.split(", "))), set(map(status, after.split(", "))))
        for event, before, after in ROW.findall(told(resource))
    }
    assert listed == {
        event: (set(ways), {after for following in ways.values() for after in following})
        for event, ways in lifecycle.table.items()
    }


def test_ways_are_in_the_order_of_events_and_statuses() -> None:
    lifecycle = LIFECYCLES["mailbox"]
    events, statuses = list(lifecycle.table), list(lifecycle.statuses)
    ways = edges_of(lifecycle.table, statuses, events)
    order = [None, *statuses]

    def place(edge: Edge) -> tuple[int, int, int]:
        return events.index(edge.event), order.index(edge.before), order.index(edge.after)

    assert sorted(ways, key=place) == ways


def test_a_document_without_a_place_for_a_lifecycle_is_refused() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").replace("<!-- lifecycle of alias: make diagram -->\n", "")
    with pytest.raises(ValueError, match="no place for the lifecycle of alias"):
        rewritten(text)
