"""Logs: one JSON object a line, in which no secret stands under its name."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from postroomd.observability import logs
from postroomd.runtime.processes import LOADERS

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The configuration of this process is put back after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = {name: logging.getLogger(name).level for name in logs.QUIET_LIBRARIES}
    configuration = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, library_level in libraries.items():
        logging.getLogger(name).setLevel(library_level)
    structlog.configure(**configuration)


def lines(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_line_is_json_with_instant_level_process_and_context(capsys: Capture) -> None:
    logs.configure("info", process="serve")
    call = logs.CALL.set(("r-1", "GetDomain"))
    structlog.get_logger("postroomd.x").info("call", code="OK")
    logs.CALL.reset(call)
    (line,) = lines(capsys)
    assert list(line)[:4] == ["timestamp", "level", "process", "event"]
    assert line["timestamp"].endswith("Z")
    expected = {"level": "info", "process": "serve", "event": "call", "code": "OK"}
    assert line.items() >= (expected | {"request_id": "r-1", "rpc": "GetDomain"}).items()


def test_level_is_the_least_that_is_logged(capsys: Capture) -> None:
    logs.configure("warning", process="serve")
    log = structlog.get_logger()
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_libraries_lines_come_the_same_way_from_warning_up(capsys: Capture) -> None:
    logs.configure("debug", process="serve")
    for name in logs.QUIET_LIBRARIES:
        logging.getLogger(f"{name}.part").info("no")
        logging.getLogger(f"{name}.part").warning("%s", name, extra={"password": "hunter2"})
    assert [(line["event"], line["password"]) for line in lines(capsys)] == [
        (name, logs.MASK) for name in logs.QUIET_LIBRARIES
    ]


@pytest.mark.parametrize("name", ["password", "new_password", "X-Auth-Token", "Authorization", "secret_key", "TOKEN"])
@pytest.mark.parametrize("form", ["json", "console"])
def test_secret_is_masked_at_any_depth(capsys: Capture, name: str, form: Any) -> None:
    logs.configure("info", form, process="serve")
    structlog.get_logger().info(
        "call",
        **{name: "hunter2"},
        request={"mailboxes": [{name: "hunter2"}]},
        metadata=[(name, "hunter2"), ("a", "b")],
    )
    shown = capsys.readouterr().err
    assert shown.count(logs.MASK) == 3
    assert "hunter2" not in shown


@pytest.mark.parametrize("form", ["json", "console"])
def test_traceback_has_no_local_variables(capsys: Capture, form: Any) -> None:
    logs.configure("info", form, process="serve")

    def fail(password: str) -> None:
        raise LookupError("no such thing")

    try:
        fail("".join(["hunter", "2"]))  # not in the source as it would be in the traceback
    except LookupError:
        structlog.get_logger().exception("failed")
    shown = capsys.readouterr().err
    assert "LookupError: no such thing" in shown
    assert "in fail" in shown
    assert "hunter2" not in shown


def test_console_is_for_terminals(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("info", "auto", process="serve")
    structlog.get_logger().info("first")
    json.loads(capsys.readouterr().err)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure("info", "auto", process="serve")
    structlog.get_logger().info("second")
    assert "\x1b[" in capsys.readouterr().err


def test_what_json_does_not_know_is_logged_all_the_same(capsys: Capture) -> None:
    logs.configure("info", process="serve")
    structlog.get_logger().info("odd", value={1: object(), "text": "\ud800"}, number=2**80)
    (line,) = lines(capsys)
    assert line["event"] == "odd"


@pytest.mark.parametrize("process", LOADERS)
def test_no_process_holds_what_only_the_command_line_shows(process: str) -> None:
    program = (
        f"import sys; from postroomd.runtime.processes import load; load({process!r}); print('rich' in sys.modules)"
    )
    loading = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loading.stdout == "False\n"
