"""Each example client against a service over TLS: its session, and its calls while the service restarts."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.clients.tls_service import TlsService, validated_service
from tests.clients.toolchains import CLIENTS, Client, build
from tests.support.waiting import block_until

Rows = list[tuple[str, str, float]]

SESSION_SECONDS = 300
LOAD_SECONDS = 120
CALLS = 20
"""How many calls each client makes before the restart, and after it."""
PASSWORD = "a long enough password"
STEPS = "domain publish ready created listed invalid conflict all-details deadline repeated"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsService]:
    with validated_service(tmp_path_factory.mktemp("service"), *(f"{name}.example" for name in CLIENTS)) as running:
        yield running


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, rows: Rows) -> Client:
    """A client, built."""
    client = CLIENTS[request.param]
    _build(client, rows)
    return client


_built: set[object] = set()


def _build(client: Client, rows: Rows) -> None:
    if client.build not in _built:
        rows.append((client.name, "build", build(client)))
        _built.add(client.build)


def run(client: Client, service: TlsService, *arguments: str) -> str:
    """Return what a client prints."""
    done = subprocess.run(
        [*client.command, *arguments],
        cwd=client.path,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=SESSION_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_session(client: Client, service: TlsService, rows: Rows) -> None:
    started = time.monotonic()
    output = run(client, service)
    printed: dict[str, list[str]] = {}
    for line in output.splitlines():
        step, _, text = line.partition(": ")
        printed.setdefault(step, []).append(text)
    assert list(printed) == STEPS.split()
    rows.append((client.name, STEPS, time.monotonic() - started))
    name = f"{client.name}.example"
    assert printed["domain"] == [f"{name} is WAITING_VALIDATION"]
    assert len(printed["publish"]) == 5
    assert printed["ready"] == [name]

    pattern = re.compile(r"5 mailboxes, the first (\S+), replayed: (\w+)")
    (first, created), (again, repeated) = [found.groups() for found in map(pattern.match, printed["created"]) if found]
    assert (first, created.lower(), repeated.lower()) == (again, "false", "true")
    assert printed["listed"] == [f"{local_part}@{name} READY" for local_part in ("ann", "bob", "cat", "dan", "eve")]

    code, *violations = printed["invalid"]
    assert upper(code) == "INVALIDARGUMENTINVALIDARGUMENTS"
    assert [violation.split()[0] for violation in violations] == ["mailboxes[0].local_part", "mailboxes[0].password"]
    code, *conflicts = printed["conflict"]
    assert upper(code) == "ALREADYEXISTSCONFLICT"
    assert conflicts == [f"mailboxes[1].local_part ann@{name} (ready)"]
    assert printed["all-details"] == ["200 violations"]
    assert [upper(code) for code in printed["deadline"]] == ["DEADLINEEXCEEDED"]
    assert printed["repeated"] == ["100 mailboxes"]


def upper(code: str) -> str:
    """Return a code without the spelling of its language."""
    return code.upper().replace("_", "").replace(" ", "")


def test_a_missing_toolchain_is_an_error() -> None:
    with pytest.raises(AssertionError, match="the odd example needs no-such-compiler: install the toolchain"):
        build(Client("odd", "odd", (), ("sh", "no-such-compiler"), (("sh", "-c", "exit 0"),)))


def test_text_of_a_request_has_its_password(client: Client, service: TlsService) -> None:
    # As docs/clients.md warns, despite `debug_redact` in the contract.
    assert PASSWORD in run(client, service, "text")


def _has_called(output: Path, count: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, output.read_text()[-2_000:]
    return output.read_text().count("call ") >= count


def test_no_call_fails_while_the_service_restarts(service: TlsService, tmp_path: Path, rows: Rows) -> None:
    outputs = {name: tmp_path / name for name in CLIENTS}

    def calls(name: str) -> int:
        return outputs[name].read_text().count("call ")

    def wait_for_calls() -> None:
        for name, already in [(name, calls(name)) for name in CLIENTS]:
            block_until(partial(_has_called, outputs[name], already + CALLS, processes[name]), LOAD_SECONDS)

    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as cleanups:
        for name, client in CLIENTS.items():
            _build(client, rows)
            output = cleanups.enter_context(outputs[name].open("wb"))
            process = subprocess.Popen(
                [*client.command, "load"],
                cwd=client.path,
                env=service.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            processes[name] = cleanups.enter_context(process)
            cleanups.callback(process.kill)
        wait_for_calls()
        started = time.monotonic()
        service.restart()
        wait_for_calls()
        rows.append(("all", f"{CALLS} calls after a restart under load", time.monotonic() - started))
        for process in processes.values():
            assert process.stdin
            process.stdin.close()
        for name, process in processes.items():
            process.wait(LOAD_SECONDS)
            printed = outputs[name].read_text().splitlines()
            told = [line for line in printed if not line.startswith("call ")]
            assert process.returncode == 0, f"{name}: {told}"
            assert re.fullmatch(r"load: (\d+) calls, 0 failed, \1 aliases", printed[-1]), f"{name}: {told}"
