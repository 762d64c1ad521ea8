"""The README's table of settings."""

from pathlib import Path

from postroomd.settings import markdown_table

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- settings: python -m postroomd.settings -->\n", "<!-- end of settings -->\n"


def test_readme_table_matches_the_settings() -> None:
    table = README.read_text().partition(BEGIN)[2].partition(END)[0]
    assert table.strip() == markdown_table().strip()
