"""The arithmetic of the bench: medians, ratios, targets, percentiles, and the order of runs."""

import pytest

from bench.figures import Figure, at_least, at_most, compared, in_turns
from bench.percentiles import percentile


def test_medians_and_their_ratio() -> None:
    figure = compared("x", "req/s", [30, 90, 60], [100, 110, 10], at_least(0.6))
    assert (figure.value, figure.floor, figure.ratio, figure.met) == (60, 100, 0.6, True)


def test_faster_turns_the_ratio_round() -> None:
    figure = compared("x", "ms", [5], [20], at_least(4), faster=True)
    assert (figure.ratio, figure.met) == (4, True)


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure(what="x", value=59, floor=100, target=at_least(0.6)), False),
        (Figure(what="x", value=150, floor=100, target=at_most(1.5)), True),
        (Figure(what="x", value=151, floor=100, target=at_most(1.5)), False),
        (Figure(what="no floor: the figure itself", value=131, target=at_most(130)), False),
        (Figure(what="no floor: the figure itself", value=130, target=at_most(130)), True),
        (Figure(what="nothing measured", target=at_most(130)), None),
        (Figure(what="no target", value=1, floor=1), None),
    ],
)
def test_targets(figure: Figure, met: bool | None) -> None:
    assert figure.met is met


async def test_runs_take_turns() -> None:
    order = []

    async def product() -> int:
        order.append("product")
        return len(order)

    async def floor() -> int:
        order.append("floor")
        return len(order)

    assert await in_turns(2, product, floor) == [[1, 3], [2, 4]]
    assert order == ["product", "floor", "product", "floor"]


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.01, 1), (0.5, 50), (0.991, 100), (0.99, 99), (1, 100)])
def test_percentiles_by_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
