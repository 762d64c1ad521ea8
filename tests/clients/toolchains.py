"""The example clients: how each is built and started. What a build downloads or compiles is kept in .cache/."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
BUILD_SECONDS = 1_800
"""For one command, which may download everything and compile it on a busy machine."""
ATTEMPTS = 3
"""Of a command: a registry fails at times, and Go's does not repeat a download that has failed."""

CACHES: Mapping[str, str] = {
    "CARGO_HOME": str(CACHE / "cargo"),
    "CARGO_INCREMENTAL": "0",
    "CARGO_PROFILE_DEV_DEBUG": "0",
    "CARGO_TARGET_DIR": str(CACHE / "cargo-target"),
    "GOCACHE": str(CACHE / "go-build"),
    "GOFLAGS": "-buildvcs=false -modcacherw",  # `make clean` can remove it
    "GOPATH": str(CACHE / "go"),
    "npm_config_cache": str(CACHE / "npm"),
}
MAVEN = ("mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={CACHE / 'maven'}")
GO_PROGRAM = str(CACHE / "examples" / "go")
RUST_PROGRAM = str(CACHE / "cargo-target" / "debug" / "postroom-example")


@dataclass(frozen=True)
class Client:
    """An example client. `name` is the label under `.example` of the domain that it registers."""

    name: str
    directory: str
    command: Sequence[str]
    tools: Sequence[str] = ()
    build: Sequence[Sequence[str]] = ()

    @property
    def path(self) -> Path:
        """The directory to run it in."""
        return ROOT / "examples" / self.directory


NODE_BUILD = (("npm", "ci", "--silent"), ("npm", "run", "--silent", "build"))
CLIENTS = {
    client.name: client
    for client in (
        Client("go", "go", (GO_PROGRAM,), ("go",), (("go", "generate"), ("go", "build", "-o", GO_PROGRAM, "."))),
        Client(
            "java",
            "java",
            ("java", "-cp", "target/classes:target/dependency/*", "com.postroom.examples.Example"),
            ("java", "mvn"),
            ((*MAVEN, "compile"),),
        ),
        Client("grpc-js", "typescript", ("node", "dist/grpc-js.js"), ("node", "npm"), NODE_BUILD),
        Client("connect", "typescript", ("node", "dist/connect.js"), ("node", "npm"), NODE_BUILD),
        Client("rust", "rust", (RUST_PROGRAM,), ("cargo",), (("cargo", "build", "--quiet", "--locked"),)),
        Client("python", "python", (sys.executable, "main.py")),
    )
}


def build_environment() -> dict[str, str]:
    """Return the environment of a build: the caches, and buf from the virtual environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **CACHES, "PATH": path}


def build(client: Client) -> float:
    """Build a client. Returns the seconds it took. Raises AssertionError for a missing tool, and for a failed build."""
    missing = [tool for tool in client.tools if shutil.which(tool) is None]
    assert not missing, f"the {client.name} example needs {' and '.join(missing)}: install the toolchain"
    started = time.monotonic()
    _share_cargo_configuration()
    for command in client.build:
        run_build(command, client.path)
    return time.monotonic() - started


def run_build(command: Sequence[str], directory: Path, **variables: str) -> None:
    """Run a command of a build, again if it fails. Raises AssertionError with the output of the last attempt."""
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command,
            cwd=directory,
            env=build_environment() | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return
    raise AssertionError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


def _share_cargo_configuration() -> None:
    """Keep the user's configuration of registries, which cargo reads from its home."""
    own = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "config.toml"
    home = Path(CACHES["CARGO_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    if own.exists() and own.parent != home:
        shutil.copyfile(own, home / "config.toml")
