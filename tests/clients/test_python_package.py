"""The wheel of postroom-client, installed alone in fresh environments: `make test-clients`. Needs PyPI."""

import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Up, clean_environment, start, terminate

ROOT = Path(__file__).parents[2]
MAX_BYTES = 60 * 1_000_000
INSTALL_SECONDS = 900
VERSIONS = {
    "oldest": ["grpcio==1.76.0", "protobuf==6.33.*"],
    "newest": ["grpcio>=1.85", "protobuf>=7.36"],
}
PROGRAM = """
import importlib.util, os
from postroom.client import channel, decode_error
from postroom.admin.v1alpha1.admin_service_pb2_grpc import AdminServiceStub
from postroom.v1alpha1.domain_pb2 import CreateDomainRequest
from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub
import grpc

assert importlib.util.find_spec("postroomd") is None
with channel(os.environ["TARGET"], os.environ["SCW_SECRET_KEY"], insecure=True) as connection:
    service = MailboxServiceStub(connection)
    print(service.CreateDomain(CreateDomainRequest(name=os.environ["NAME"]), timeout=20).name)
    try:
        service.CreateDomain(CreateDomainRequest(name="com"), timeout=20)
    except grpc.RpcError as error:
        print([violation.field for violation in decode_error(error).violations])
"""


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The client's wheel, as `make wheels` builds it."""
    subprocess.run(["make", "wheels"], cwd=ROOT, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    (found,) = (ROOT / "dist").glob("postroom_client-*.whl")
    assert list((ROOT / "dist").glob("postroom-*.whl"))
    return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started = start(tmp_path_factory.mktemp("up"))
    yield started
    terminate(started)


@pytest.mark.parametrize("versions", VERSIONS)
def test_client_wheel_works_alone(versions: str, wheel: Path, up: Up, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    before = size(packages)
    # Isolated (-I): PYTHONPATH may lead to the server.
    install: list[str | Path] = [python, "-I", "-m", "pip", "install", "--quiet", wheel, *VERSIONS[versions]]
    subprocess.run(install, check=True, timeout=INSTALL_SECONDS)
    assert size(packages) - before < MAX_BYTES
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", PROGRAM],
        env=clean_environment(**up.environment, TARGET=up.grpc_address, NAME=f"{versions}.example"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    command = subprocess.run([python, "-I", "-m", "postroom", "keys"], capture_output=True, text=True, check=False)
    assert (command.returncode, command.stdout) == (1, "")
    assert command.stderr.startswith("postroom: only the client is installed")
    assert done.stdout.splitlines() == [f"{versions}.example", "['name']"]


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
