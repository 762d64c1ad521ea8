"""The actor of a command in the audit log."""

import os
import pwd
from datetime import UTC, datetime

import pytest

from postroomd.runtime.commands import command_context


def test_the_actor_is_the_user_of_the_process_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody else")
    context = command_context("keys create", datetime(2026, 1, 1, tzinfo=UTC))
    assert context.actor == f"command:{pwd.getpwuid(os.getuid()).pw_name}"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert command_context("keys create", datetime(2026, 1, 1, tzinfo=UTC)).actor == "command:4000000"
