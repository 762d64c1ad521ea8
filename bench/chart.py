"""An SVG chart of the results for README.md: every measurement that has a target, relative to the target.

The axis is logarithmic, in multiples of the target; better is to the right. One line per measurement, one dot per
engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from math import log2
from pathlib import Path
from typing import Any

from bench.engine import Engine
from bench.report import format_number

CHART = Path(__file__).parents[1] / "docs" / "performance.svg"

# Lengths are in pixels.
LINE_HEIGHT = 22
TOP = 56
LABEL_WIDTH = 600
PLOT_WIDTH = 300
NUMBER_WIDTH = 210
WIDTH = LABEL_WIDTH + PLOT_WIDTH + NUMBER_WIDTH
OCTAVES = 4  # on either side of the target; values beyond are drawn at the edge
CSS_CLASSES = {Engine.SQLITE: "sqlite", Engine.POSTGRESQL: "postgresql"}

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.muted { fill: #656d76 }
line { stroke: #d0d7de }
.target { stroke: #1f2328; stroke-width: 1.5 }
.sqlite { fill: #0969da }
.postgresql { fill: #bf8700 }
.missed { fill-opacity: 0.15; stroke-width: 2 }
.sqlite.missed { stroke: #0969da }
.postgresql.missed { stroke: #bf8700 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .muted { fill: #8d96a0 }
  line { stroke: #30363d }
  .target { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """One measurement on one engine."""

    engine: Engine
    number: float
    """The ratio, or the value if there is no baseline."""
    score: float
    """The number as a multiple of its target; above 1 is better."""
    met: bool
    target: str


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement on every engine it was measured on."""

    title: str
    dots: list[Dot] = field(default_factory=list)


def lines(results: Mapping[str, Any]) -> list[Line]:
    """Return the measurements with a target, from the content of results.json and in its order."""
    by_key: dict[tuple[str, str], Line] = {}
    for name, result in results.items():
        row, _, engine = name.rpartition("/")
        for one in result["measurements"]:
            if one["met"] is None:
                continue
            line = by_key.setdefault((one["title"], row), Line(one["title"]))
            number = one["value"] if one["ratio"] is None else one["ratio"]
            line.dots.append(Dot(Engine(engine), number, _score(number, one["target"]), one["met"], one["target"]))
    return list(by_key.values())


def draw(results: Mapping[str, Any]) -> str:
    """Return the chart as SVG."""
    charted = lines(results)
    height = TOP + LINE_HEIGHT * len(charted) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Postroom's measurements relative to their targets</title>",
        f"<style>{STYLE}</style>",
        *_axis(height),
    ]
    for index, line in enumerate(charted):
        parts += _line(line, TOP + LINE_HEIGHT * index + LINE_HEIGHT / 2)
    return "\n".join([*parts, "</svg>", ""])


def _score(number: float, target: str) -> float:
    relation, _, limit = target.partition(" ")
    ratio = max(number, 1e-9) / float(limit)
    return ratio if relation == "≥" else 1 / ratio


def _x(score: float) -> float:
    share = max(-OCTAVES, min(OCTAVES, log2(score))) / OCTAVES
    return LABEL_WIDTH + PLOT_WIDTH / 2 * (1 + share)


def _axis(height: int) -> Iterator[str]:
    for octave in range(-OCTAVES, OCTAVES + 1):
        x = _x(2.0**octave)
        css_class = ' class="target"' if octave == 0 else ""
        yield f'<line{css_class} x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 8}"/>'
    yield f'<text x="{_x(1):.1f}" y="{TOP - 12}" text-anchor="middle">target</text>'
    for octave, label in ((-OCTAVES, f"{2**OCTAVES} times worse"), (OCTAVES, f"{2**OCTAVES} times better")):
        yield f'<text class="muted" x="{_x(2.0**octave):.1f}" y="{TOP - 12}" text-anchor="middle">{label}</text>'
    for index, (engine, css_class) in enumerate(CSS_CLASSES.items()):
        x = 10 + 90 * index
        yield f'<circle class="{css_class}" cx="{x}" cy="18" r="5"/><text x="{x + 10}" y="22">{engine}</text>'


def _line(line: Line, y: float) -> Iterator[str]:
    yield f'<text x="{LABEL_WIDTH - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(line.title)}</text>'
    for dot in line.dots:
        css_class = CSS_CLASSES[dot.engine] if dot.met else f"{CSS_CLASSES[dot.engine]} missed"
        yield f'<circle class="{css_class}" cx="{_x(dot.score):.1f}" cy="{y:.1f}" r="5"/>'
    targets = {dot.target for dot in line.dots}
    if len(targets) == 1:
        text = f"{', '.join(format_number(dot.number) for dot in line.dots)} ({targets.pop()})"
    else:
        text = ", ".join(f"{format_number(dot.number)} ({dot.target})" for dot in line.dots)
    yield f'<text class="muted" x="{LABEL_WIDTH + PLOT_WIDTH + 14}" y="{y + 4:.1f}">{escape(text)}</text>'
