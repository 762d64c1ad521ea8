"""The official Go SDK against a running Postroom: `make test-clients`. Needs a Go toolchain and its module proxy."""

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import pytest

from postroom.admin.v1alpha1 import admin_service_pb2_grpc, mailbox_pb2
from tests.clients.toolchains import run_build
from tests.e2e.sdk.instances import launch, ready_address
from tests.e2e.support import START_SECONDS, Up, clean_environment, database_url, run, start, terminate
from tests.support.waiting import block_until
from tools.ports import free_port

PROGRAM = Path(__file__).parent / "go-sdk"
RUN_SECONDS = 300


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    go = shutil.which("go")
    assert go, "a Go toolchain is required: install Go, or run `make test` without the clients"
    binary = tmp_path_factory.mktemp("go") / "go-sdk"
    run_build([go, "build", "-o", str(binary), "."], PROGRAM)
    return binary


def test_every_operation_and_every_error_type(program: Path, tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    (tmp_path / "manual").mkdir()
    usual = start(tmp_path / "usual", "--admin-address=127.0.0.1:0")
    try:
        manual = start(tmp_path / "manual", "--provisioning=manual", "--rate-limit=8")
        try:
            with _gateways(tmp_path) as gateways:
                environment = clean_environment(
                    **usual.environment, **_fixtures(usual), **_transient(manual), **gateways
                )
                result = subprocess.run(
                    [program], env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
                )
        finally:
            terminate(manual)
    finally:
        terminate(usual)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "go-sdk: every step passed"


def _transient(up: Up) -> Mapping[str, str]:
    return {
        "TRANSIENT_API_URL": up.environment["SCW_API_URL"],
        "TRANSIENT_SECRET_KEY": up.environment["SCW_SECRET_KEY"],
        "TRANSIENT_PROJECT_ID": up.environment["SCW_DEFAULT_PROJECT_ID"],
    }


@contextmanager
def _gateways(directory: Path) -> Iterator[Mapping[str, str]]:
    """Run two gateways: of a service that is down, and of one that accepts calls and never answers."""
    with ExitStack() as cleanups:
        services = {
            "UNAVAILABLE": (f"127.0.0.1:{free_port()}", ()),
            "SILENT": (cleanups.enter_context(_silent_service()), ("--call-timeout-seconds=0.4",)),
        }
        urls = {}
        for name, (service, deadline) in services.items():
            (directory / name).mkdir()
            gateway = launch(
                directory / name, "gateway", "--http-address=127.0.0.1:0", f"--grpc-address={service}", *deadline
            )
            cleanups.callback(terminate, gateway)
            urls[f"{name}_API_URL"] = f"http://{ready_address(gateway)}"
        yield urls


@contextmanager
def _silent_service() -> Iterator[str]:
    """Run a gRPC server whose calls never end. Yields its address."""
    stopped = threading.Event()

    class Silence(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: bytes(stopped.wait()))

    server = grpc.server(ThreadPoolExecutor(1), [Silence()])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield address
    finally:
        stopped.set()
        server.stop(None).wait()


def _fixtures(up: Up) -> Mapping[str, str]:
    """Create what the error types need: a read-only key, a full project and a locked mailbox."""
    organization = f"--organization-id={up.environment['SCW_DEFAULT_ORGANIZATION_ID']}"
    read_only = _command(up, "keys", "create", organization, "--read-only", "--output=json")
    expired = _command(up, "keys", "create", organization, "--expires-in=1s", "--output=json")
    (project,) = _command(up, "projects", "create", organization, "--name=full", "--mailbox-quota=1", "--output=json")
    admin = _command(up, "admin-keys", "create", "--name=go-sdk", "--output=json")
    mailbox_id = _locked_mailbox(up, admin["secret"])
    block_until(lambda: _refuses(up, expired["SCW_SECRET_KEY"]))
    return {
        "READ_ONLY_SECRET_KEY": read_only["SCW_SECRET_KEY"],
        "EXPIRED_SECRET_KEY": expired["SCW_SECRET_KEY"],
        "FULL_PROJECT_ID": project["id"],
        "LOCKED_MAILBOX_ID": mailbox_id,
    }


def _command(up: Up, *arguments: str) -> Any:
    done = run(*arguments, f"--database-url={database_url(up.directory)}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _locked_mailbox(up: Up, admin_secret: str) -> str:
    domain = _post(up, "/domains", {"name": "locked.example"})
    batch = {"domain_id": domain["id"], "mailboxes": [{"local_part": "ann", "password": "a long enough password"}]}
    mailbox_id = str(_post(up, "/batch-create-mailboxes", batch)["mailboxes"][0]["id"])
    address = up.output.split("# The admin service listens on ")[1].split()[0]
    with grpc.insecure_channel(address) as channel:
        request = mailbox_pb2.LockMailboxRequest(mailbox_id=mailbox_id, reason="a test")
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        stub.LockMailbox(request, metadata=(("x-auth-token", admin_secret),), timeout=START_SECONDS)
    return mailbox_id


def _refuses(up: Up, secret: str) -> bool:
    """Tell whether the key is answered with 401."""
    url = f"{up.environment['SCW_API_URL']}/mailbox/v1alpha1/domains"
    outgoing = urllib.request.Request(url, headers={"X-Auth-Token": secret})  # noqa: S310
    try:
        with urllib.request.urlopen(outgoing, timeout=START_SECONDS):  # noqa: S310
            return False
    except urllib.error.HTTPError as error:
        with error:
            return error.code == HTTPStatus.UNAUTHORIZED


def _post(up: Up, path: str, body: Mapping[str, Any]) -> Any:
    headers = {"X-Auth-Token": up.environment["SCW_SECRET_KEY"], "Content-Type": "application/json"}
    url = f"{up.environment['SCW_API_URL']}/mailbox/v1alpha1{path}"
    outgoing = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(outgoing, timeout=START_SECONDS) as response:  # noqa: S310
        return json.loads(response.read())
