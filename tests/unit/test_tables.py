"""Tables of the commands on a terminal."""

import pytest
from rich.cells import cell_len

from postroomd.cli.output import print_table

COLUMNS = ("record", "status", "dns_name", "dns_value", "error")
ROW = ("dkim", "valid", "mail2026._domainkey.example.org.", "p=" + "A" * 400, "no answer " * 20)


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_narrow_terminal_shortens_free_texts_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    print_table(COLUMNS, [ROW])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == list(COLUMNS)
    assert line.split()[:3] == list(ROW[:3])
    assert line.count("…") == 2
    if columns >= 120:  # wide enough for all columns with free texts of 16
        assert cell_len(line) <= columns


def test_a_terminal_that_is_wide_enough_shortens_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    print_table(COLUMNS, [ROW])
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[3] == ROW[3]
    assert "…" not in line
