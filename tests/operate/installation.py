"""Postroom installed from its wheels, as docs/install.md says."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.support import clean_environment
from tests.support.deploy_files import replaced
from tests.support.documentation import block

ROOT = Path(__file__).parents[2]
DOCUMENTED = "/opt/postroom"
INSTALL_SECONDS = 600
COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Installation:
    """A virtual environment that holds the wheels and the locked versions of everything else."""

    directory: Path

    @property
    def postroom(self) -> str:
        """The command."""
        return str(self.directory / "bin" / "postroom")

    def run(
        self, *arguments: object, variables: Mapping[str, str], stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Postroom to its end, in a shell without the tests' own environment."""
        return subprocess.run(
            [self.postroom, *map(str, arguments)],
            env=clean_environment(**variables),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )


def install(directory: Path) -> Installation:
    """Build the wheels in this clone, and install them by the documented commands."""
    subprocess.run(["make", "wheels"], cwd=ROOT, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    commands = replaced(
        block("install.md", "pip install --require-hashes"),
        {"python3.11": sys.executable, DOCUMENTED: str(directory), "pip install": "pip install --quiet"},
    )
    run_shell(commands, cwd=ROOT, seconds=INSTALL_SECONDS)
    return Installation(directory)


def run_shell(
    commands: str,
    *,
    cwd: Path,
    seconds: float = COMMAND_SECONDS,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run commands of the documentation in a shell that ends at the first failure. Returns their output."""
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", commands],
        cwd=cwd,
        env=clean_environment(**variables or {}),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout
