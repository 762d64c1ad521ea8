"""The README says what the code does."""

from pathlib import Path

from postroomd.settings import markdown_table

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- settings: python -m postroomd.settings -->\n", "<!-- end of settings -->\n"


def test_settings_table_is_the_settings_class() -> None:
    table = README.read_text().partition(BEGIN)[2].partition(END)[0]
    assert table.strip() == markdown_table().strip()
