"""docs/lifecycle.md agrees with the transition tables."""

import re
from pathlib import Path

import pytest

from tools.lifecycle_diagram import LIFECYCLES, Edge, edges_of, regenerate

DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycle.md"
ARROW = re.compile(r"^    (\S+) --> (\S+): (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| .+\. \|$", re.MULTILINE)
OUTSIDE = {"[*]", "(new)", "(gone)"}


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert regenerate(text) == text, "run `make diagram`"


def section(resource: str) -> str:
    """The document's section on the lifecycle of a resource."""
    begin = f"<!-- lifecycle of {resource}: make diagram -->"
    return DOCUMENT.read_text(encoding="utf-8").partition(begin)[2].partition("<!-- end")[0]


def status(text: str) -> str | None:
    return None if text in OUTSIDE else text.strip("`")


@pytest.mark.parametrize("resource", LIFECYCLES)
def test_the_diagrams_contain_every_transition_and_no_other(resource: str) -> None:
    lifecycle = LIFECYCLES[resource]
    drawn = {
        (event, status(before), status(after))
        for before, after, events in ARROW.findall(section(resource))
        for event in events.split(", ")
    }
    assert drawn == {
        (event, before, after)
        for event, by_status in lifecycle.table.items()
        for before, following in by_status.items()
        for after in following
    }


@pytest.mark.parametrize("resource", LIFECYCLES)
def test_the_tables_contain_every_event_with_its_statuses(resource: str) -> None:
    lifecycle = LIFECYCLES[resource]
    listed = {
        event: (set(map(status, before.split(", "))), set(map(status, after.split(", "))))
        for event, before, after in ROW.findall(section(resource))
    }
    assert listed == {
        event: (set(by_status), {after for following in by_status.values() for after in following})
        for event, by_status in lifecycle.table.items()
    }


def test_edges_are_in_the_order_of_events_and_statuses() -> None:
    lifecycle = LIFECYCLES["mailbox"]
    events, statuses = list(lifecycle.table), list(lifecycle.statuses)
    edges = edges_of(lifecycle.table, statuses, events)
    order = [None, *statuses]

    def position(edge: Edge) -> tuple[int, int, int]:
        return events.index(edge.event), order.index(edge.before), order.index(edge.after)

    assert sorted(edges, key=position) == edges


def test_a_document_without_a_section_is_refused() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").replace("<!-- lifecycle of alias: make diagram -->\n", "")
    with pytest.raises(ValueError, match="no section for the lifecycle of alias"):
        regenerate(text)
