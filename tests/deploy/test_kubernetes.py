"""The manifests of deploy/kubernetes: their commands and variables run, and their probes are answered."""

import http.client
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.deploy.image import Image
from tests.e2e.support import POSTROOM, START_SECONDS, STOP_SECONDS, clean_environment
from tests.support.deploy_files import DEPLOY
from tests.support.waiting import block_until
from tools.ports import free_port, free_ports
from tools.postgres import PostgresServer

DOCUMENTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
PROBE_SECONDS = START_SECONDS


@dataclass(frozen=True)
class Container:
    """The only container of a Job or Deployment, with ports and secrets of the test in place of its own."""

    spec: Mapping[str, Any]
    ports: Mapping[int, int]
    secrets: Mapping[str, str]

    @property
    def variables(self) -> dict[str, str]:
        """The environment that Kubernetes gives it, with the variables that name the services of the namespace."""
        linked = {
            f"{document['metadata']['name'].upper().replace('-', '_')}_PORT": "tcp://10.0.0.1:1"
            for document in DOCUMENTS
            if document["kind"] == "Service"
        }
        shared = {
            name: value
            for source in self.spec.get("envFrom", ())
            for name, value in resource("ConfigMap", source["configMapRef"]["name"])["data"].items()
        }
        return linked | {name: self._local(value) for name, value in (shared | self._own()).items()}

    def _own(self) -> dict[str, str]:
        values = {}
        for each in self.spec["env"]:
            if "value" in each:
                values[each["name"]] = each["value"]
            else:
                reference = each["valueFrom"]["secretKeyRef"]
                assert reference["key"] in resource("Secret", reference["name"])["stringData"]
                values[each["name"]] = self.secrets[reference["key"]]
        return values

    def _local(self, value: str) -> str:
        """Return an address with the test's port on loopback, and any other value as it is."""
        host, _, port = value.rpartition(":")
        if host in {"0.0.0.0", "postroom-service"}:  # noqa: S104 - compared
            return f"127.0.0.1:{self.ports[int(port)]}"
        return value

    def answers(self, probe: str) -> bool:
        """Make a probe as the kubelet does. Whether it succeeds."""
        kind = next(kind for kind in PROBES if kind in self.spec[probe])
        target = self.spec[probe][kind]
        named = {port["name"]: port["containerPort"] for port in self.spec["ports"]}
        port = self.ports[named.get(target["port"], target["port"])]
        try:
            return PROBES[kind](port, target)
        except (OSError, grpc.RpcError, http.client.HTTPException):
            return False


def ask_grpc(port: int, target: Mapping[str, Any]) -> bool:
    """Ask for the health of the service."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=target.get("service", ""))
        status: int = stub.Check(request, timeout=PROBE_SECONDS).status
        return status == health_pb2.HealthCheckResponse.SERVING


def ask_http(port: int, target: Mapping[str, Any]) -> bool:
    """Get a path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", target["path"])
        return 200 <= connection.getresponse().status < 400
    finally:
        connection.close()


def connect(port: int, _target: Mapping[str, Any]) -> bool:
    """Open a connection."""
    socket.create_connection(("127.0.0.1", port), PROBE_SECONDS).close()
    return True


PROBES: Mapping[str, Callable[[int, Mapping[str, Any]], bool]] = {
    "grpc": ask_grpc,
    "httpGet": ask_http,
    "tcpSocket": connect,
}


def resource(kind: str, name: str) -> Any:
    """Return the only resource of a kind and name."""
    (found,) = (each for each in DOCUMENTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def container(kind: str, name: str, ports: Mapping[int, int], secrets: Mapping[str, str]) -> Container:
    """Return the container of a Job or Deployment."""
    (spec,) = resource(kind, name)["spec"]["template"]["spec"]["containers"]
    return Container(spec, ports, secrets)


@contextmanager
def running(each: Container, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a container's command with its variables; stopped at the end."""
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [POSTROOM, *each.spec["args"]], env=clean_environment(**each.variables), stdout=log, stderr=log
        )
    try:
        yield process
        if process.poll() is None:
            process.terminate()
        assert process.wait(STOP_SECONDS) == 0, (directory / "log").read_text()[-3_000:]
    finally:
        process.kill()
        process.wait()


def test_the_commands_run_and_the_probes_are_answered(postgres: PostgresServer, tmp_path: Path) -> None:
    database = f"kubernetes_{uuid4().hex[:8]}"
    postgres.sql(f"CREATE DATABASE {database}")
    secrets = {"database-url": postgres.url(database), "gateway-secret": "5e" * 32}
    grpc_port, http_port = free_ports(2)
    common = {50051: grpc_port, 8080: http_port}
    with running(container("Job", "postroom-migrate", common, secrets), tmp_path) as migration:
        assert migration.wait(START_SECONDS) == 0
    service, gateway, worker = (
        container("Deployment", f"postroom-{name}", common | {9464: free_port()}, secrets)
        for name in ("service", "gateway", "worker")
    )
    with running(gateway, tmp_path), running(worker, tmp_path):
        block_until(lambda: gateway.answers("livenessProbe"))
        assert not gateway.answers("readinessProbe")
        with running(service, tmp_path):
            for each in (service, gateway, worker):
                probes = [name for name in each.spec if name.endswith("Probe")]
                assert probes
                for probe in probes:
                    block_until(lambda each=each, probe=probe: each.answers(probe))  # type: ignore[misc]
        assert not service.answers("readinessProbe")
        block_until(lambda: not gateway.answers("readinessProbe"))
        assert gateway.answers("livenessProbe")


@pytest.mark.parametrize("name", ["service", "gateway"])
def test_the_image_has_the_program_that_runs_before_a_stop(name: str, image: Image) -> None:
    program, _ = container("Deployment", f"postroom-{name}", {}, {}).spec["lifecycle"]["preStop"]["exec"]["command"]
    assert (image.root / "usr" / "bin" / program).exists()
