"""The alert rules and the dashboard: every metric and label that they name exists."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from postroomd.observability.metrics import METRICS, markdown_table

FILES = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
TESTS = yaml.safe_load((FILES / "alerts_test.yaml").read_text())["tests"]

METRIC = re.compile(r"\b(?:postroom|grpc_server|http_server)_[a-z_]+")
SELECTOR = re.compile(r"([a-z_]+)\{([^}]*)\}")
GROUPING = re.compile(r"by \(([^)]*)\) \(")
SUFFIXES = ("_bucket", "_sum", "_count")


def labels_by_metric() -> dict[str, set[str]]:
    """The labels of each metric in the table of docs/metrics.md, with the series of histograms."""
    found: dict[str, set[str]] = {}
    for line in markdown_table().splitlines()[2:]:
        name, kind, labels = [cell.strip() for cell in line.strip("| ").split("|")][:3]
        names = set(re.findall(r"`([^`]+)`", labels))
        found[name.strip("`")] = names
        if kind == "histogram":
            found |= {name.strip("`") + suffix: names | {"le"} for suffix in SUFFIXES}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_every_metric_and_label_of_an_expression_exists(name: str, expression: str) -> None:
    known = labels_by_metric()
    without_labels = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", expression)
    metrics = set(METRIC.findall(without_labels))
    assert metrics, name
    assert metrics <= known.keys()
    for metric, selector in SELECTOR.findall(expression):
        assert set(re.findall(r"([a-z_]+)(?:=|!)", selector)) <= known[metric]
    for group in GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= set.union(*(known[metric] for metric in metrics))


def test_every_rule_has_a_severity_a_summary_and_a_remedy() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert all(rule["annotations"][each].endswith(".") for each in ("summary", "remedy"))


def test_every_metric_of_a_unit_test_exists() -> None:
    known = labels_by_metric()
    for test in TESTS:
        for series in test["input_series"]:
            assert series["series"].partition("{")[0] in known
        for check in test["alert_rule_test"]:
            assert check["alertname"] in {rule["alert"] for rule in RULES}


def test_the_dashboard_shows_every_metric_but_few() -> None:
    shown = {name for _, expression in expressions() for name in METRIC.findall(expression)}
    bases = {name.removesuffix(suffix) for name in shown for suffix in ("", *SUFFIXES)}
    without_alert_or_panel: Any = {
        "postroom_calls_unauthenticated_total",
        "postroom_http_requests_refused_total",
        "postroom_clock_leaps_total",
        "postroom_certificate_reloads_total",
    }
    names = {name for name in labels_by_metric() if not name.endswith(SUFFIXES)}
    assert len(names) == len(METRICS)
    assert names - bases == without_alert_or_panel
