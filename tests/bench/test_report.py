"""What is kept of a run, and the picture of it."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import report
from bench.catalogue import ROWS
from bench.figures import Figure, at_least, at_most
from bench.picture import draw, lines
from bench.report import Result, keep, load, number

SVG = "{http://www.w3.org/2000/svg}"


def result(name: str, engine: str, *figures: Figure) -> Result:
    return Result(name, engine, 1.0, figures)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    return report.RESULTS


@pytest.fixture
def shown(kept: Path) -> dict[str, Any]:
    """Two figures on both engines: one better than its target, one worse; and figures without either."""
    for engine in ("sqlite", "postgresql"):
        get = Figure(what="GetMailbox <over> gRPC", value=90, floor=100, target=at_least(0.6))
        size = Figure(what="memory", value=200, target=at_most(100))
        keep(result("get", engine, get, Figure(what="untold", value=1, floor=2)))
        keep(result("memory", engine, size, Figure(what="unmeasured", target=at_least(1))))
    return load()


def test_a_row_replaces_its_own_last_result_alone(kept: Path) -> None:
    keep(result("get", "sqlite", Figure(what="x", value=1)))
    keep(result("get", "postgresql", Figure(what="x", value=2)))
    keep(result("get", "sqlite", Figure(what="x", value=3, floor=6, target=at_least(0.4))))
    written = json.loads(kept.read_text())
    assert {name: one["figures"][0]["value"] for name, one in written.items()} == {"get/sqlite": 3, "get/postgresql": 2}
    figure = written["get/sqlite"]["figures"][0]
    assert (figure["ratio"], figure["target"], figure["met"]) == (0.5, "≥ 0.4", True)


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.61234, "0.612 s"), (26.14, "26.1 s"), (100, "100 s"), (3848.4, "3,848 s")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value, "s") == text


def test_picture_has_a_line_for_each_figure_that_met_or_missed(shown: dict[str, Any]) -> None:
    assert [(line.what, [dot.met for dot in line.dots]) for line in lines(shown)] == [
        ("GetMailbox <over> gRPC", [True, True]),
        ("memory", [False, False]),
    ]


def test_picture_puts_what_is_better_to_the_right(shown: dict[str, Any]) -> None:
    picture = ElementTree.fromstring(draw(shown))  # noqa: S314 - our own
    target = next(line for line in picture.iter(f"{SVG}line") if line.get("class") == "target")
    dots = [dot for dot in picture.iter(f"{SVG}circle") if float(dot.get("cy", 0)) > 50]  # below the legend
    assert len(dots) == 4
    for dot in dots:
        missed = "missed" in str(dot.get("class"))
        assert (float(dot.get("cx", 0)) < float(target.get("x1", 0))) is missed


def test_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
