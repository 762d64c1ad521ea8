"""Medians, ratios, targets, percentiles, and the order of runs."""

import pytest

from bench.measurements import Measurement, alternate, at_least, at_most, compare
from bench.percentiles import percentile


def test_comparison_takes_medians_and_their_ratio() -> None:
    one = compare("x", "req/s", [30, 90, 60], [100, 110, 10], at_least(0.6))
    assert (one.value, one.baseline, one.ratio, one.met) == (60, 100, 0.6, True)


def test_speedup_inverts_the_ratio() -> None:
    one = compare("x", "ms", [5], [20], at_least(4), speedup=True)
    assert (one.ratio, one.met) == (4, True)


@pytest.mark.parametrize(
    ("measurement", "met"),
    [
        (Measurement(title="x", value=59, baseline=100, target=at_least(0.6)), False),
        (Measurement(title="x", value=150, baseline=100, target=at_most(1.5)), True),
        (Measurement(title="x", value=151, baseline=100, target=at_most(1.5)), False),
        (Measurement(title="without a baseline: the value itself", value=131, target=at_most(130)), False),
        (Measurement(title="without a baseline: the value itself", value=130, target=at_most(130)), True),
        (Measurement(title="without a value", target=at_most(130)), None),
        (Measurement(title="without a target", value=1, baseline=1), None),
    ],
)
def test_targets(measurement: Measurement, met: bool | None) -> None:
    assert measurement.met is met


async def test_runs_alternate() -> None:
    order = []

    async def product() -> int:
        order.append("product")
        return len(order)

    async def baseline() -> int:
        order.append("baseline")
        return len(order)

    assert await alternate(2, product, baseline) == [[1, 3], [2, 4]]
    assert order == ["product", "baseline", "product", "baseline"]


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.01, 1), (0.5, 50), (0.991, 100), (0.99, 99), (1, 100)])
def test_percentiles_by_nearest_rank(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_percentile_of_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
