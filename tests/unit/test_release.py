"""Every place that names the version names the same one."""

import re
from datetime import date
from pathlib import Path

import postroom.client
import postroomd

ROOT = Path(__file__).parents[2]
IMAGE = re.compile(r"\bpostroom:(\d[\w.-]*)")


def test_server_client_and_contract_have_one_version() -> None:
    assert postroom.client.__version__ == postroomd.__version__
    assert f'"version": "{postroomd.__version__}"' in (ROOT / "src/postroomd/gateway/openapi.json").read_text()


def test_every_image_has_the_version() -> None:
    files = [ROOT / "docs" / "install.md", *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())]
    named = {path.relative_to(ROOT): set(IMAGE.findall(path.read_text())) for path in files}
    different = {path: versions for path, versions in named.items() if versions - {postroomd.__version__}}
    assert different == {}
    assert any(named.values())


def test_the_changelog_has_a_dated_section_of_the_version_below_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    version, _, day = headings[1].partition(" ")
    assert version == postroomd.__version__
    date.fromisoformat(day.strip("()"))
