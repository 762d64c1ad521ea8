"""`make wheels`: the same commit gives the same octets, wherever it is built."""

import hashlib
import os
import subprocess
from pathlib import Path

from tests.operate.installation import INSTALL_SECONDS, ROOT

VENV = ROOT / ".venv"
INHERITED = ("SOURCE_DATE_EPOCH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")


def build(clone: Path, umask: int, modified: float, **variables: str) -> dict[str, str]:
    """Clone the commit, and build it with the tools that are installed here. Returns digests by name."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], umask=umask, check=True)
    for path in clone.rglob("*"):
        os.utime(path, (modified, modified), follow_symlinks=False)
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    subprocess.run(
        # The environment is not to be renewed for the clone, whose files are newer.
        ["make", "wheels", f"VENV={VENV}", f"--old-file={VENV}/.dev"],
        cwd=clone,
        env=environment | variables,
        umask=umask,
        check=True,
        capture_output=True,
        timeout=INSTALL_SECONDS,
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (clone / "dist").glob("*.whl")}


def test_two_clones_give_the_same_wheels(tmp_path: Path) -> None:
    one = build(tmp_path / "one", 0o022, 1_000_000_000, TZ="UTC", LC_ALL="C")
    two = build(tmp_path / "another" / "place", 0o077, 1_700_000_000, TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    assert {name.partition("-")[0] for name in one} == {"postroom", "postroom_client"}
    assert one == two
