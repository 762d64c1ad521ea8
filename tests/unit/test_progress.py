"""The lines about the progress of long work where stderr is no terminal."""

from postroomd.cli.bulk.progress import LINE_SECONDS, ProgressLines


def test_a_line_is_written_every_ten_seconds_and_none_of_short_work() -> None:
    lines: list[str] = []
    now = 0.0
    progress = ProgressLines("copying", 40_000, lines.append, lambda: now)
    for _ in range(40):
        now += LINE_SECONDS / 20
        progress.advance(1_000)
    assert lines == ["copying 20,000 of 40,000 (50 %)", "copying 40,000 of 40,000 (100 %)"]


def test_a_total_that_is_unknown_or_none_is_left_out() -> None:
    for total in (None, 0):
        lines: list[str] = []
        instants = iter((0.0, LINE_SECONDS))
        ProgressLines("looking up", total, lines.append, lambda: next(instants)).advance(3)  # noqa: B023
        assert lines == ["looking up 3"]
