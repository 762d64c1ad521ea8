"""A root of Debian from the machine's own apt sources, and the image of the Containerfile, built over it by buildah.

The base image does not come from a registry: a root of Debian with the same version of Python replaces it. Needs root.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.deploy_files import DEPLOY, program

ROOT = DEPLOY.parent
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
PYTHON_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"  # that of the image python
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates,systemd-sysv,dbus,sudo"
"""What the image python has of it, and systemd for the units."""
CERTIFICATES = "/etc/ssl/certs"
BUILD_SECONDS = 1_200
PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")


def run(*command: object, seconds: float = BUILD_SECONDS) -> str:
    """Run a program; returns its output. Fails the test with what it wrote."""
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
    return done.stdout


def mirrors(codename: str) -> list[str]:
    """Return the lines of sources.list from which apt has this release of Debian on this machine."""
    targets = run(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI) $(RELEASE)", "Created-By: Packages"
    )
    found = {
        f"deb {uri} {release} main"
        for origin, name, uri, release in (line.split() for line in targets.splitlines() if line.count(" ") == 3)
        if origin == "Debian" and name.startswith(codename)
    }
    if not found:
        pytest.fail(f"apt has no lists of Debian {codename}: run `apt-get update` on a machine of that release")
    return sorted(found)


@dataclass(frozen=True)
class Buildah:
    """Buildah with a storage of its own."""

    directory: Path

    def __call__(self, *arguments: object) -> str:
        storage = ("--root", self.directory / "root", "--runroot", self.directory / "run", "--storage-driver", "vfs")
        return run(program("buildah", "buildah"), *storage, *arguments).strip()


@dataclass(frozen=True)
class Image:
    """The image that was built: its file system, and its configuration."""

    root: Path
    config: Mapping[str, Any]

    @property
    def user(self) -> tuple[int, int]:
        uid, gid = self.config["User"].split(":")
        return int(uid), int(gid)

    def command(self, *command: str, **variables: str) -> list[str]:
        """Return a command with the image's environment, in its directory."""
        own = [*self.config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        return ["env", "--ignore-environment", f"--chdir={self.config['WorkingDir']}", *own, *command]


def documented_build() -> list[str]:
    """Return the arguments of the documented `podman build`, which are also buildah's."""
    (line,) = re.findall(r"^podman build .*$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    assert f"#   {line}\n" in CONTAINERFILE.read_text()
    return shlex.split(line)[2:]


def make_base(directory: Path) -> Path:
    """Write the root of Debian as an archive."""
    if os.geteuid() != 0:
        pytest.fail("building an image without a registry needs root")
    codename = base_image().rpartition("-")[2]
    archive = directory / "base.tar"
    mmdebstrap = program("mmdebstrap", "mmdebstrap")
    run(mmdebstrap, "--variant=minbase", f"--include={PACKAGES}", codename, archive, *mirrors(codename))
    return archive


@contextmanager
def built_image(archive: Path, directory: Path) -> Iterator[Image]:
    """Build the image by the documented commands, and mount it during the block."""
    buildah = Buildah(directory)
    container = buildah("from", "scratch")
    buildah("add", container, archive, "/")
    settings = {"PATH": PYTHON_PATH} | {name: os.environ[name] for name in PIP_SETTINGS if name in os.environ}
    buildah("config", *(f"--env={name}={value}" for name, value in settings.items()), container)
    buildah("commit", "--rm", "--quiet", container, base_image())
    run("make", "wheels", "sbom")
    flags = documented_build()
    isolation = ("--isolation=chroot", "--pull-never", "--network=host", f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
    buildah("bud", *isolation, *flags)
    tag = flags[flags.index("--tag") + 1]
    container = buildah("from", "--pull-never", tag)
    config = json.loads(buildah("inspect", "--type=image", tag))["Docker"]["config"]
    try:
        yield Image(Path(buildah("mount", container)), config)
    finally:
        buildah("umount", container)
        buildah("rm", container)


def base_image() -> str:
    """Return the image that every stage of the Containerfile is from."""
    (base,) = set(re.findall(r"^FROM (\S+)", CONTAINERFILE.read_text(), re.MULTILINE))
    return str(base)
