"""The saved results, and the chart of them."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import report
from bench.catalogue import ROWS
from bench.chart import draw, lines
from bench.measurements import Measurement, at_least, at_most
from bench.report import Result, format_number, load, save

SVG = "{http://www.w3.org/2000/svg}"


def result(name: str, engine: str, *measurements: Measurement) -> Result:
    return Result(name, engine, 1.0, measurements)


@pytest.fixture
def results_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    return report.RESULTS


@pytest.fixture
def saved(results_file: Path) -> dict[str, Any]:
    """One measurement better than its target, one worse, and others without target or value; on both engines."""
    for engine in ("sqlite", "postgresql"):
        get = Measurement(title="GetMailbox <over> gRPC", value=90, baseline=100, target=at_least(0.6))
        size = Measurement(title="memory", value=200, target=at_most(100))
        save(result("get", engine, get, Measurement(title="without a target", value=1, baseline=2)))
        save(result("memory", engine, size, Measurement(title="without a value", target=at_least(1))))
    return load()


def test_result_replaces_the_last_one_of_its_row_and_engine(results_file: Path) -> None:
    save(result("get", "sqlite", Measurement(title="x", value=1)))
    save(result("get", "postgresql", Measurement(title="x", value=2)))
    save(result("get", "sqlite", Measurement(title="x", value=3, baseline=6, target=at_least(0.4))))
    written = json.loads(results_file.read_text())
    assert {name: one["measurements"][0]["value"] for name, one in written.items()} == {
        "get/sqlite": 3,
        "get/postgresql": 2,
    }
    one = written["get/sqlite"]["measurements"][0]
    assert (one["ratio"], one["target"], one["met"]) == (0.5, "≥ 0.4", True)


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.61234, "0.612 s"), (26.14, "26.1 s"), (100, "100 s"), (3848.4, "3,848 s")]
)
def test_number_format(value: float | None, text: str) -> None:
    assert format_number(value, "s") == text


def test_chart_has_a_line_per_measurement_with_a_target(saved: dict[str, Any]) -> None:
    assert [(line.title, [dot.met for dot in line.dots]) for line in lines(saved)] == [
        ("GetMailbox <over> gRPC", [True, True]),
        ("memory", [False, False]),
    ]


def test_chart_places_better_values_to_the_right(saved: dict[str, Any]) -> None:
    chart = ElementTree.fromstring(draw(saved))  # noqa: S314 - trusted
    target = next(line for line in chart.iter(f"{SVG}line") if line.get("class") == "target")
    dots = [dot for dot in chart.iter(f"{SVG}circle") if float(dot.get("cy", 0)) > 50]  # below the legend
    assert len(dots) == 4
    for dot in dots:
        missed = "missed" in str(dot.get("class"))
        assert (float(dot.get("cx", 0)) < float(target.get("x1", 0))) is missed


def test_row_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
