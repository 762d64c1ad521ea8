"""`make wheels` is reproducible: one commit gives one file, wherever and whenever it is built."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(directory: Path, modified: float, mask: int) -> dict[str, str]:
    """Build the wheels in a copy of the working tree whose files have another time and mode. Returns their digests."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        source, copy = ROOT / name, directory / name
        if source.is_file() and not name.startswith("tests/"):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o644 & ~mask)
            os.utime(copy, (modified, modified))
    tools = str(ROOT / ".venv")  # newer than the files, so that make does not install them again
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "VIRTUAL_ENV": tools}
    subprocess.run(["make", "wheels", f"VENV={tools}"], cwd=directory, env=environment, check=True, capture_output=True)
    return {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in (directory / "dist").glob("*.whl")}


def test_two_builds_give_the_same_files(tmp_path: Path) -> None:
    first = build(tmp_path / "first", 1_600_000_000, 0o000)
    assert {name.partition("-")[0] for name in first} == {"postroom", "postroom_client"}
    assert build(tmp_path / "a" / "longer" / "second", 1_650_000_000, 0o044) == first
