"""The table of `make attack`."""

import json

import pytest

from bench.attack.report import COLUMNS, Comparison, Experience, header, row

CONTROL = Experience({"OK": 500}, p50_ms=2.0, p99_ms=10.0, service_mb=90.0, gateway_mb=80.0)


def measured(failed: int, p99_ms: float) -> Comparison:
    outcomes = {"OK": 500 - failed, **({"UNAVAILABLE": failed} if failed else {})}
    attacked = Experience(outcomes, p50_ms=3.0, p99_ms=p99_ms, service_mb=111.4, gateway_mb=88.0)
    return Comparison("grpc-calls", "sqlite", attacked, CONTROL)


@pytest.mark.parametrize(
    ("failed", "p99_ms", "met"), [(0, 30.0, True), (5, 30.0, True), (6, 30.0, False), (0, 30.1, False)]
)
def test_a_scenario_meets_its_target_by_losses_and_p99(failed: int, p99_ms: float, met: bool) -> None:
    assert measured(failed, p99_ms).is_within_target is met
    assert row(measured(failed, p99_ms)).endswith("| met |" if met else "| missed |")


def test_a_row_has_every_column_and_the_values_of_an_earlier_run_beside() -> None:
    assert row(measured(0, 20.0)) == "| grpc-calls | sqlite | 0 of 500 | 0 | 2.0 x | 111 | 88 | none | met |"
    before = measured(132, 160.0)
    assert row(measured(0, 20.0), before) == (
        "| grpc-calls | sqlite | 132 of 500 → 0 of 500 | 0 → 0 | 16.0 x → 2.0 x | 111 → 111 | 88 → 88"
        " | UNAVAILABLE 132 → none | met |"
    )
    for line in (*header().splitlines(), row(before), row(before, before)):
        assert line.count("|") == len(COLUMNS) + 1


def test_a_saved_comparison_is_read_back() -> None:
    assert Comparison.from_json(json.loads(json.dumps(measured(1, 20.0).to_json()))) == measured(1, 20.0)
