"""grpcurl over TLS, with no descriptor but what the service reflects: `make test-clients`. Needs Go's module proxy."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.toolchains import CACHE, run_build
from tests.e2e.support import start, terminate
from tests.support.certificates import Authority

VERSION = "v1.9.3"
RUN_SECONDS = 60
SERVICE = "postroom.v1alpha1.MailboxService"


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """The built program, kept in the working tree's cache by version."""
    program = CACHE / "go" / f"grpcurl-{VERSION}" / "grpcurl"
    if not program.exists():
        go = shutil.which("go")
        assert go, "a Go toolchain is required: install Go, or run `make test` without the clients"
        command = [go, "install", f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"]
        run_build(command, CACHE.parent, GOBIN=str(program.parent))
    return program


@dataclass(frozen=True)
class Grpcurl:
    """grpcurl with the address, the authority and the key of a running service."""

    program: Path
    authority: Authority
    address: str
    secret: str

    def run(self, *arguments: str, body: object = None, secret: str | None = None) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        flags = [f"-cacert={self.authority.path}", "-authority=mail.example"]
        flags += [f"-H=x-auth-token: {secret or self.secret}", "-format-error"]
        data = [] if body is None else [f"-d={json.dumps(body)}"]
        command = [str(self.program), *flags, *data, self.address, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        return done.returncode, done.stdout, done.stderr

    def details(self, rpc: str, body: object, secret: str | None = None) -> dict[str, Any]:
        """Return the details of a failed call by their type."""
        code, _, error = self.run(f"{SERVICE}/{rpc}", body=body, secret=secret)
        assert code > 64, error  # grpcurl adds 64 to gRPC's status
        return {each["@type"].rpartition(".")[2]: each for each in json.loads(error)["details"]}


@pytest.fixture(scope="module")
def service(grpcurl: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grpcurl]:
    """A service with TLS."""
    directory = tmp_path_factory.mktemp("grpcurl")
    authority = Authority(directory / "tls")
    files = authority.issue("server", "mail.example")
    up = start(directory, f"--tls-cert={files.cert}", f"--tls-key={files.key}")
    yield Grpcurl(grpcurl, authority, up.grpc_address, up.environment["SCW_SECRET_KEY"])
    terminate(up)


def test_the_service_is_listed_and_described_by_reflection(service: Grpcurl) -> None:
    code, listed, error = service.run("list")
    assert code == 0, error
    assert SERVICE in listed.split()
    code, described, error = service.run("describe", f"{SERVICE}.CreateDomain")
    assert code == 0, error
    assert "CreateDomainRequest" in described


def test_a_call_by_reflection_returns_its_message(service: Grpcurl) -> None:
    code, created, error = service.run(f"{SERVICE}/CreateDomain", body={"name": "grpcurl.example"})
    assert code == 0, error
    assert json.loads(created)["name"] == "grpcurl.example"


def test_the_details_of_errors_are_decoded(service: Grpcurl) -> None:
    refused = service.details("CreateDomain", {"name": "not a name"})
    assert refused["BadRequest"]["field_violations"][0]["field"] == "name"
    assert refused["ErrorInfo"]["domain"]
    missing = service.details("GetDomain", {"domain_id": "3f2b8a52-6f57-4b0e-9a55-0a4f1f0f7d10"})
    assert missing["ResourceInfo"]["resource_type"] == "domain"
    unknown = service.details("ListDomains", {}, secret="unknown")
    assert unknown["ErrorInfo"]["reason"]


def test_the_certificate_is_verified(service: Grpcurl, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "tls")
    command = [str(service.program), f"-cacert={stranger.path}", "-authority=mail.example", service.address, "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode != 0
    assert "certificate" in done.stderr
