"""The table of the example clients, printed at the end: language, steps, seconds."""

import pytest

ROWS = pytest.StashKey[list[tuple[str, str, float]]]()


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[tuple[str, str, float]]:
    """What was measured: client, steps, seconds."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash.get(ROWS, [])
    if measured:
        terminalreporter.section("example clients")
        for name, steps, seconds in measured:
            terminalreporter.write_line(f"{name:8} {seconds:6.1f} s  {steps}")
