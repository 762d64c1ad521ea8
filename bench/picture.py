"""A picture of the results, for the README: each figure that has a target, and how far on which side of it it is.

The axis is logarithmic, in multiples of the target; what is better is to the right. One line a figure, one dot an
engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from math import log2
from pathlib import Path
from typing import Any

from bench.engine import Engine
from bench.report import number

PICTURE = Path(__file__).parents[1] / "docs" / "performance.svg"

LINE = 22  # all lengths are pixels
TOP = 56
LABELS = 560
PLOT = 300
NUMBERS = 210
WIDTH = LABELS + PLOT + NUMBERS
OCTAVES = 4  # from the target to either side; what is further out is drawn at the edge
FILLS = {Engine.SQLITE: "sqlite", Engine.POSTGRESQL: "postgresql"}

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.quiet { fill: #656d76 }
line { stroke: #d0d7de }
.target { stroke: #1f2328; stroke-width: 1.5 }
.sqlite { fill: #0969da }
.postgresql { fill: #bf8700 }
.missed { fill-opacity: 0.15; stroke-width: 2 }
.sqlite.missed { stroke: #0969da }
.postgresql.missed { stroke: #bf8700 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .quiet { fill: #8d96a0 }
  line { stroke: #30363d }
  .target { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """One figure of one engine."""

    engine: Engine
    value: float
    score: float
    """How many times better than its target."""
    met: bool
    target: str


@dataclass(frozen=True, slots=True)
class Line:
    """A figure on each engine that it was measured on."""

    what: str
    dots: list[Dot] = field(default_factory=list)


def lines(kept: Mapping[str, Any]) -> list[Line]:
    """The figures with a target, of what `report` keeps, in its order."""
    found: dict[tuple[str, str], Line] = {}
    for name, result in kept.items():
        engine = Engine(name.rpartition("/")[2])
        for figure in result["figures"]:
            if figure["met"] is None:
                continue
            key = (figure["what"], name.rpartition("/")[0])
            line = found.setdefault(key, Line(figure["what"]))
            judged = figure["value"] if figure["ratio"] is None else figure["ratio"]
            line.dots.append(Dot(engine, judged, _score(judged, figure["target"]), figure["met"], figure["target"]))
    return list(found.values())


def draw(kept: Mapping[str, Any]) -> str:
    """The picture, as SVG."""
    shown = lines(kept)
    height = TOP + LINE * len(shown) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Postroom's figures beside their targets</title>",
        f"<style>{STYLE}</style>",
        *_axis(height),
    ]
    for index, line in enumerate(shown):
        parts += _line(line, TOP + LINE * index + LINE / 2)
    return "\n".join([*parts, "</svg>", ""])


def _score(value: float, target: str) -> float:
    relation, _, limit = target.partition(" ")
    ratio = max(value, 1e-9) / float(limit)
    return ratio if relation == "≥" else 1 / ratio


def _x(score: float) -> float:
    share = max(-OCTAVES, min(OCTAVES, log2(score))) / OCTAVES
    return LABELS + PLOT / 2 * (1 + share)


def _axis(height: int) -> Iterator[str]:
    for octave in range(-OCTAVES, OCTAVES + 1):
        x = _x(2.0**octave)
        kind = ' class="target"' if octave == 0 else ""
        yield f'<line{kind} x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 8}"/>'
    yield f'<text x="{_x(1):.1f}" y="{TOP - 12}" text-anchor="middle">target</text>'
    for octave, label in ((-OCTAVES, f"{2**OCTAVES} times worse"), (OCTAVES, f"{2**OCTAVES} times better")):
        yield f'<text class="quiet" x="{_x(2.0**octave):.1f}" y="{TOP - 12}" text-anchor="middle">{label}</text>'
    for index, (engine, name) in enumerate(FILLS.items()):
        x = 10 + 90 * index
        yield f'<circle class="{name}" cx="{x}" cy="18" r="5"/><text x="{x + 10}" y="22">{engine}</text>'


def _line(line: Line, y: float) -> Iterator[str]:
    yield f'<text x="{LABELS - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(line.what)}</text>'
    for dot in line.dots:
        kind = FILLS[dot.engine] if dot.met else f"{FILLS[dot.engine]} missed"
        yield f'<circle class="{kind}" cx="{_x(dot.score):.1f}" cy="{y:.1f}" r="5"/>'
    targets = {dot.target for dot in line.dots}
    if len(targets) == 1:
        text = f"{', '.join(number(dot.value) for dot in line.dots)} ({targets.pop()})"
    else:
        text = ", ".join(f"{number(dot.value)} ({dot.target})" for dot in line.dots)
    yield f'<text class="quiet" x="{LABELS + PLOT + 14}" y="{y + 4:.1f}">{escape(text)}</text>'
