"""Logs: one JSON object per line, with secrets masked."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import structlog

from postroomd.observability import logs
from postroomd.runtime.processes import LOADERS

Capture = pytest.CaptureFixture[str]


def lines(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_timestamp_level_process_and_call(capsys: Capture) -> None:
    logs.configure("info", process="serve")
    token = logs.LOGGED_CALL.set(("r-1", "GetDomain"))
    structlog.get_logger("postroomd.x").info("call", code="OK")
    logs.LOGGED_CALL.reset(token)
    (line,) = lines(capsys)
    assert list(line)[:4] == ["timestamp", "level", "process", "event"]
    assert line["timestamp"].endswith("Z")
    expected = {"level": "info", "process": "serve", "event": "call", "code": "OK"}
    assert line.items() >= (expected | {"request_id": "r-1", "rpc": "GetDomain"}).items()


def test_lines_below_the_level_are_dropped(capsys: Capture) -> None:
    logs.configure("warning", process="serve")
    log = structlog.get_logger()
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_library_lines_are_json_from_warning_up(capsys: Capture) -> None:
    logs.configure("debug", process="serve")
    for name in logs.QUIET_LIBRARIES:
        logging.getLogger(f"{name}.part").info("no")
        logging.getLogger(f"{name}.part").warning("%s", name, extra={"password": "hunter2"})
    assert [(line["event"], line["password"]) for line in lines(capsys)] == [
        (name, logs.MASK) for name in logs.QUIET_LIBRARIES
    ]


@pytest.mark.parametrize("name", ["password", "new_password", "X-Auth-Token", "Authorization", "secret_key", "TOKEN"])
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_secret_is_masked_at_any_depth(capsys: Capture, name: str, log_format: Any) -> None:
    logs.configure("info", log_format, process="serve")
    structlog.get_logger().info(
        "call",
        **{name: "hunter2"},
        request={"mailboxes": [{name: "hunter2"}]},
        metadata=[(name, "hunter2"), ("a", "b")],
    )
    output = capsys.readouterr().err
    assert output.count(logs.MASK) == 3
    assert "hunter2" not in output


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_has_no_local_variables(capsys: Capture, log_format: Any) -> None:
    logs.configure("info", log_format, process="serve")

    def fail(password: str) -> None:
        raise LookupError("no such thing")

    try:
        fail("".join(["hunter", "2"]))  # a literal would appear in the source lines of the traceback
    except LookupError:
        structlog.get_logger().exception("failed")
    output = capsys.readouterr().err
    assert "LookupError: no such thing" in output
    assert "in fail" in output
    assert "hunter2" not in output


def test_the_auto_format_is_console_on_terminals_only(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", "auto", process="serve")
    structlog.get_logger().info("first")
    json.loads(capsys.readouterr().err)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure("info", "auto", process="serve")
    structlog.get_logger().info("second")
    assert "\x1b[" in capsys.readouterr().err


def test_values_unknown_to_json_are_logged(capsys: Capture) -> None:
    logs.configure("info", process="serve")
    structlog.get_logger().info("odd", value={1: object(), "text": "\ud800"}, number=2**80)
    (line,) = lines(capsys)
    assert line["event"] == "odd"


class Count:
    """A counter for tests."""

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        self.value += 1


def test_a_rate_limited_warning_counts_all_events_and_logs_one_a_second(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure("info", process="serve")
    now, counter = 100.0, Count()
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    warning = logs.RateLimitedWarning("calls refused", counter, kind="reads")
    for number in range(3):
        warning.record(latest=number)
    now += logs.WARNING_INTERVAL_SECONDS
    warning.record(latest=3)
    assert counter.value == 4
    assert [(line["event"], line["kind"], line["latest"], line["count"]) for line in lines(capsys)] == [
        ("calls refused", "reads", 0, 1),
        ("calls refused", "reads", 3, 3),
    ]


@pytest.mark.parametrize("process", LOADERS)
def test_no_process_imports_rich(process: str) -> None:
    program = f"""
import sys
from postroomd.runtime.processes import load_main
load_main({process!r})
print('rich' in sys.modules)
"""
    loading = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loading.stdout == "False\n"
