"""One machine of an operator: its settings, and the processes of its systemd units."""

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.support import STOP_SECONDS, clean_environment
from tests.operate.installation import COMMAND_SECONDS, DOCUMENTED, Installation
from tests.support.certificates import Authority
from tests.support.deploy_files import DEPLOY, replaced
from tests.support.waiting import block_until
from tools.ports import free_address

HOST = "127.0.0.1"
UNITS = ("postroom-serve", "postroom-worker", "postroom-gateway")
EXAMPLE_URL = "postgresql+asyncpg://postroom:PASSWORD@db.internal/postroom?sslmode=require"
READY = '"event": "ready"'


@dataclass
class Machine:
    """Service, worker and gateway with TLS, on one database, as their systemd units run them."""

    directory: Path
    installation: Installation
    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of the example of postroom.env."""
    keys: dict[str, str] = field(default_factory=dict)
    """Secrets that an operator exports in the shell: SCW_SECRET_KEY and POSTROOM_ADMIN_SECRET."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.authority = Authority(self.directory / "tls")
        files = self.authority.issue("server", HOST)
        self.env_file = self.directory / "postroom.env"
        self.grpc_address, self.http_address = free_address(), free_address()
        example = (DEPLOY / "systemd" / "postroom.env.example").read_text()
        text = replaced(
            example,
            {
                f"{EXAMPLE_URL}\n": f"{self.database_url}\n",
                "127.0.0.1:50051": self.grpc_address,
                "127.0.0.1:8080": self.http_address,
                "POSTROOM_GATEWAY_SECRET=": "POSTROOM_GATEWAY_SECRET=" + "5e" * 32,
            },
        )
        added = {
            "POSTROOM_TLS_CERT": files.cert,
            "POSTROOM_TLS_KEY": files.key,
            "POSTROOM_HTTP_TLS_CERT": files.cert,
            "POSTROOM_HTTP_TLS_KEY": files.key,
            "POSTROOM_GRPC_TLS_CA": self.authority.path,
            "POSTROOM_ADMIN_ADDRESS": free_address(),
            **self.settings,
        }
        self.env_file.write_text(text + "".join(f"{name}={value}\n" for name, value in added.items()))

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a shell that has read postroom.env, with the operator's keys."""
        lines = [line for line in self.env_file.read_text().splitlines() if line and not line.startswith("#")]
        return dict(line.split("=", 1) for line in lines) | self.keys

    def postroom(self, *arguments: object, code: int = 0, stdin: str = "", **variables: str) -> str:
        """Run a command that ends with an exit code. Returns its output."""
        done = self.installation.run(*arguments, variables=self.variables | variables, stdin=stdin)
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def rows(self, *arguments: object, code: int = 0, **variables: str) -> Any:
        """Run a command with JSON as its output. Returns the rows."""
        return json.loads(self.postroom(*arguments, "--output=json", code=code, **variables))

    def refused(self, *arguments: object, code: int) -> str:
        """Run a command that must fail. Returns its line of error."""
        done = self.installation.run(*arguments, variables=self.variables)
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        (line,) = done.stderr.splitlines()
        return line

    def start(self, *units: str) -> None:
        """Start units, in their order, and wait until each is ready."""
        for unit in units:
            settings = _service_section(unit)
            command = shlex.split(replaced(settings["ExecStart"][-1], {DOCUMENTED: str(self.installation.directory)}))
            own = dict(each.split("=", 1) for each in settings["Environment"])
            own["POSTROOM_METRICS_ADDRESS"] = free_address()  # the example's port may be in use on the tests' machine
            log = self._log(unit)
            before = log.read_text().count(READY) if log.exists() else 0
            with log.open("ab") as output:
                self.processes[unit] = subprocess.Popen(
                    command,
                    env=clean_environment(**own | self.variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.directory,
                )
            block_until(lambda log=log, before=before, unit=unit: self._ready(unit, log, before))  # type: ignore[misc]

    def stop(self, *units: str) -> None:
        """Stop units as systemd does: SIGTERM, and wait."""
        for unit in units:
            process = self.processes.pop(unit)
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0, self._log(unit).read_text()[-2_000:]

    def kill(self) -> None:
        """Kill every process with SIGKILL."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(STOP_SECONDS)
        self.processes.clear()

    def doctor(self, code: int = 0, **variables: str) -> dict[str, dict[str, str]]:
        """Return the findings of doctor by check."""
        return {finding["check"]: finding for finding in self.rows("doctor", code=code, **variables)}

    def succeed_at_last(self, *arguments: object) -> None:
        """Run a command until it succeeds."""
        done: list[subprocess.CompletedProcess[str]] = []

        def succeeds() -> bool:
            done[:] = [self.installation.run(*arguments, variables=self.variables)]
            return done[0].returncode == 0

        try:
            block_until(succeeds, COMMAND_SECONDS)  # each attempt starts a process
        except AssertionError as error:
            raise AssertionError(f"{arguments}: {done[0].stdout}{done[0].stderr}") from error

    def wait_until_well(self) -> None:
        """Wait until doctor finds nothing."""
        self.succeed_at_last("doctor")

    def _log(self, unit: str) -> Path:
        return self.directory / f"{unit}.log"

    def _ready(self, unit: str, log: Path, before: int) -> bool:
        text = log.read_text()
        assert self.processes[unit].poll() is None, text[-2_000:]
        return text.count(READY) > before


def _service_section(unit: str) -> dict[str, list[str]]:
    """Return the settings of a unit's [Service] section."""
    text = (DEPLOY / "systemd" / f"{unit}.service").read_text().partition("[Service]")[2].partition("[Install]")[0]
    settings: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        settings.setdefault(name, []).append(value)
    return settings
