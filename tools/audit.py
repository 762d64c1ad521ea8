"""`python -m tools.audit LOCK`: report known vulnerabilities of the locked versions.

A report, not a check: an advisory that appears must not stop an unrelated change, nor a source that can't be reached.
The exit code is therefore always 0.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = "https://api.osv.dev/v1/query"
CONNECTION_SECONDS = 3
TOTAL_SECONDS = 60.0


def audit(lock: Path, source: str = SOURCE, total_seconds: float = TOTAL_SECONDS) -> str:
    """Return a report of one or more lines."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--progress-spinner=off",
        "--format=json",
        "--disable-pip",
        "--no-deps",
    ]
    command += ["--vulnerability-service=osv", f"--osv-url={source}", f"--timeout={CONNECTION_SECONDS}"]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, f"--requirement={lock}"], capture_output=True, text=True, timeout=total_seconds, check=False
        )
        dependencies = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no report: {source} has not answered within {total_seconds:g} s"
    except (ValueError, KeyError):  # pip-audit ends with a traceback if its source can't be reached
        lines = done.stderr.strip().splitlines()
        return f"no report: {source} can't be reached ({lines[-1] if lines else 'no output'})"
    return _report(dependencies)


def _report(dependencies: list[dict[str, Any]]) -> str:
    found = [(dependency, advisory) for dependency in dependencies for advisory in dependency.get("vulns", ())]
    lines = [f"{len(found)} known vulnerabilities in {len(dependencies)} packages"]
    for dependency, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
        lines.append(f"{dependency['name']} {dependency['version']}: {advisory['id']}, fixed in {fixed}")
    skipped = [dependency["name"] for dependency in dependencies if "skip_reason" in dependency]
    if skipped:
        lines.append(f"not audited: {', '.join(skipped)}")
    return "\n".join(lines)


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument("lock", type=Path, help="requirements file with pinned versions")
    sys.stdout.write(f"pip-audit: {audit(parser.parse_args().lock)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
