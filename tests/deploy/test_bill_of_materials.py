"""The bill of materials."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from postroomd import __version__

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"


def write_sbom(path: Path) -> str:
    command = [sys.executable, "-m", "tools.sbom", str(LOCK), str(path)]
    subprocess.run(command, check=True, cwd=ROOT)
    return path.read_text()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bill of materials as `make sbom` writes it, into a new directory."""
    return write_sbom(tmp_path_factory.mktemp("bill") / "new" / "first.json")


def test_the_bill_of_materials_is_valid_and_reproducible(written: str, tmp_path: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    assert write_sbom(tmp_path / "second.json") == written


def test_it_has_every_locked_version_with_its_hashes(written: str) -> None:
    bill = json.loads(written)
    pinned = {line.split()[0] for line in LOCK.read_text().splitlines() if "==" in line.split(" ")[0]}
    listed = {f"{component['name']}=={component['version']}" for component in bill["components"]}
    assert {name.partition("==")[0] for name in pinned} >= {"grpcio", "aiohttp", "sqlalchemy"}
    assert {name.split("[")[0] for name in pinned if "[" not in name} <= listed
    assert all(component["externalReferences"][0]["hashes"] for component in bill["components"])
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("postroom", __version__)
    assert len(bill["dependencies"][0]["dependsOn"]) == len(bill["components"])
