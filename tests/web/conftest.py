"""Fixtures: a running Postroom, and pages of a real Chromium."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.support import Up, start, terminate

CHROMIUM = os.environ.get("POSTROOM_CHROMIUM") or shutil.which("chromium")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",  # the browser's own requests, such as for updates
    "--disable-component-update",
    "--disable-sync",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium refuses to run as root otherwise
)


@pytest.fixture(scope="session")
def postroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running Postroom that tests share."""
    up = start(tmp_path_factory.mktemp("postroom"))
    yield up
    terminate(up)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """An empty page of a browser with a profile of its own."""
    if CHROMIUM is None:
        pytest.fail("no chromium on the PATH: run `apt-get install chromium`, or set POSTROOM_CHROMIUM")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            args=FLAGS,
            chromium_sandbox=os.geteuid() != 0,
            viewport={"width": 1280, "height": 1000},
        )
        yield context.new_page()
        context.close()
