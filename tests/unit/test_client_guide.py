"""docs/clients.md quotes the example clients as they are."""

import re
from pathlib import Path

import pytest

GUIDE = Path("docs/clients.md").read_text(encoding="utf-8")
QUOTE = re.compile(r"<!-- from: (\S+) -->\n\n```\w+\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https:)([^)#]+)\)")


def test_every_language_is_quoted() -> None:
    quoted = {path.split("/")[1] for path, _ in QUOTE.findall(GUIDE)}
    assert quoted == {"go", "java", "python", "rust", "typescript"}


@pytest.mark.parametrize(("path", "text"), QUOTE.findall(GUIDE))
def test_a_quote_is_in_the_program(path: str, text: str) -> None:
    assert text in Path(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(LINK.findall(GUIDE))))
def test_a_link_leads_to_a_file(target: str) -> None:
    assert (Path("docs") / target).exists()


def test_lock_files_name_no_registry() -> None:
    npm = Path("examples/typescript/package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in npm
    cargo = Path("examples/rust/Cargo.lock").read_text(encoding="utf-8")
    # How Cargo names crates.io, wherever the crates are fetched from.
    sources = set(re.findall(r"^source = (.*)$", cargo, re.MULTILINE))
    assert sources == {'"registry+https://github.com/rust-lang/crates.io-index"'}
    assert "://" not in Path("examples/go/go.sum").read_text(encoding="utf-8")
