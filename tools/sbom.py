"""`python -m tools.sbom LOCK OUTPUT`: write the CycloneDX SBOM of an installation from the lock file.

The output depends on the lock file, pyproject.toml and the version of Postroom alone.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from postroomd import __version__


def sbom(lock: Path, pyproject: Path) -> dict[str, Any]:
    """Return the bill of materials. Raises CalledProcessError."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    done = subprocess.run([*command, f"--pyproject={pyproject}", str(lock)], capture_output=True, check=True)  # noqa: S603
    bill: dict[str, Any] = json.loads(done.stdout)
    # The version is dynamic in pyproject.toml, and pip's requirements have no root.
    root = bill["metadata"]["component"]
    root |= {"version": __version__, "purl": f"pkg:pypi/postroom@{__version__}"}
    for component in bill["components"]:
        del component["description"]  # the line of the lock file
    references = sorted(component["bom-ref"] for component in bill["components"])
    bill["dependencies"] = [
        {"ref": root["bom-ref"], "dependsOn": references},
        *({"ref": reference} for reference in references),
    ]
    return bill


def main() -> int:
    """Write the bill of materials."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=__doc__)
    parser.add_argument("lock", type=Path, help="requirements file with pinned versions and hashes")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    bill = sbom(options.lock, Path("pyproject.toml"))
    options.output.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
