"""The product under attack: a service and a gateway with a database, an attacking tenant and a victim."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.ports import free_address

POSTROOM = (sys.executable, "-m", "postroomd")
READY_SECONDS = 60
STOP_SECONDS = 20


@dataclass(frozen=True)
class Tenant:
    """A tenant with a ready domain and one mailbox."""

    token: str
    domain_id: str
    mailbox_id: str


@dataclass(frozen=True)
class Stack:
    """Addresses, processes and tenants of one run."""

    grpc_address: str
    http_address: str
    service_pid: int
    gateway_pid: int
    attacker: Tenant
    victim: Tenant


Prepare = Callable[[str, Tenant], None]
"""Changes the database at a URL, for the attacking tenant, while no process runs on it."""


@contextlib.contextmanager
def running(
    directory: Path, database_url: str, flags: Mapping[str, Sequence[str]], prepare: Prepare | None = None
) -> Iterator[Stack]:
    """Run service, gateway and worker on a migrated database. `flags` has further arguments by process.

    For `prepare` they are stopped and started again: SQLite then checkpoints what it has written, which would take the
    service seconds during the attack.
    """
    environment = os.environ | {"POSTROOM_DATABASE_URL": database_url, "POSTROOM_DOMAIN_VALIDATION": "trust"}
    subprocess.run([*POSTROOM, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    addresses = (free_address(), free_address())
    with contextlib.ExitStack() as cleanups:
        started = cleanups.enter_context(_processes(directory, environment, addresses, flags))
        attacker, victim = (_new_tenant(POSTROOM, environment, addresses[1], name) for name in ("attacker", "victim"))
        if prepare is not None:
            cleanups.close()
            prepare(database_url, attacker)
            started = cleanups.enter_context(_processes(directory, environment, addresses, flags))
        yield Stack(*addresses, started["serve"], started["gateway"], attacker, victim)


@contextlib.contextmanager
def _processes(
    directory: Path, environment: Mapping[str, str], addresses: tuple[str, str], flags: Mapping[str, Sequence[str]]
) -> Iterator[Mapping[str, int]]:
    """Run the processes until the end of the block. Yields their ids by command, once they are ready."""
    grpc_address, http_address = addresses
    commands = {
        "serve": [f"--grpc-address={grpc_address}"],
        "gateway": [f"--grpc-address={grpc_address}", f"--http-address={http_address}"],
        "worker": [],
    }
    with contextlib.ExitStack() as cleanups:
        pids = {}
        for name, arguments in commands.items():
            log = cleanups.enter_context((directory / f"{name}.log").open("ab"))
            command = [*POSTROOM, name, *arguments, *flags.get(name, ())]
            process = subprocess.Popen(command, env=dict(environment), stderr=log, stdout=log)  # noqa: S603
            cleanups.callback(stop, process)
            pids[name] = process.pid
        _wait_until_ready(http_address)
        yield pids


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process, and kill it if it does not end."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _wait_until_ready(http_address: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{http_address}/readyz", timeout=2).close()
        except OSError:  # HTTP 503 included
            pass
        else:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the service is not ready")
        time.sleep(0.05)


def _new_tenant(postroom: Sequence[str], environment: Mapping[str, str], http_address: str, name: str) -> Tenant:
    command = [*postroom, "keys", "create", "--new-organization", "--output=json", f"--mailbox-quota={1_000_000}"]
    created = subprocess.run(command, env=dict(environment), check=True, capture_output=True)  # noqa: S603
    token = json.loads(created.stdout)["SCW_SECRET_KEY"]
    base = f"http://{http_address}/mailbox/v1alpha1"

    def call(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(f"{base}{path}", data, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=READY_SECONDS) as response:  # noqa: S310
            return json.loads(response.read() or b"null")

    domain = call("POST", "/domains", {"name": f"{name}.example"})
    call("POST", f"/domains/{domain['id']}/validate-records")
    deadline = time.monotonic() + READY_SECONDS
    while call("GET", f"/domains/{domain['id']}")["status"] != "ready":
        if time.monotonic() > deadline:
            raise TimeoutError("the domain is not ready")
        time.sleep(0.05)
    batch = {
        "domain_id": domain["id"],
        "mailboxes": [{"local_part": f"first{number}", "password": "a long enough password"} for number in range(10)],
    }
    created_mailboxes = call("POST", "/batch-create-mailboxes", batch)["mailboxes"]
    return Tenant(token, domain["id"], created_mailboxes[0]["id"])
