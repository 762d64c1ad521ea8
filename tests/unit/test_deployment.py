"""The files in deploy/: valid by the schemas of Kubernetes, unprivileged, and with settings that exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from postroomd import __version__
from postroomd.settings import Settings, variable

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "container" / "compose.yaml"
VERSIONS = ("1.31", "1.34")


def documents() -> Iterator[tuple[str, Any]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}: {document['kind']} {document['metadata']['name']}", document


DOCUMENTS = dict(documents())


def pods() -> dict[str, Any]:
    """Return the pod templates by their deployment or job."""
    return {
        name: document["spec"]["template"]
        for name, document in DOCUMENTS.items()
        if "template" in document.get("spec", {})
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_manifest_is_valid(name: str, version: str) -> None:
    kubernetes_validate.validate(DOCUMENTS[name], version, strict=True)


def test_the_schemas_find_faults() -> None:
    broken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", pods())
def test_every_pod_is_unprivileged_and_has_a_read_only_root(name: str) -> None:
    spec = pods()[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == f"postroom:{__version__}"
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("component", ["service", "gateway", "worker"])
def test_every_deployment_has_probes_a_disruption_budget_and_a_drain(component: str) -> None:
    deployment = DOCUMENTS[f"{component}.yaml: Deployment postroom-{component}"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    budget = DOCUMENTS[f"{component}.yaml: PodDisruptionBudget postroom-{component}"]
    assert budget["spec"]["selector"]["matchLabels"] == labels == deployment["spec"]["template"]["metadata"]["labels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]
    if component != "worker":
        assert container["readinessProbe"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > 5 + 2 * Settings().drain_seconds


def test_a_policy_selects_every_pod() -> None:
    policies = [each["spec"] for name, each in DOCUMENTS.items() if "NetworkPolicy" in name]
    common = next(
        each for each in policies if set(each["podSelector"].get("matchLabels", {})) == {"app.kubernetes.io/name"}
    )
    assert common["policyTypes"] == ["Ingress", "Egress"]
    for pod in pods().values():
        assert common["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_every_variable_is_that_of_a_setting() -> None:
    known = {variable(name) for name in Settings.model_fields}
    for path in (p for p in DEPLOY.rglob("*") if p.is_file()):
        named = set(re.findall(r"POSTROOM_[A-Z0-9_]+", path.read_text())) - {"POSTROOM_"}
        assert named <= known, path


def test_compose_runs_every_process_unprivileged() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert services.keys() == {"postgres", "migrate", "service", "gateway", "worker", "prometheus"}
    for name in ("migrate", "service", "gateway", "worker"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["image"] == f"postroom:{__version__}"
    mounted = [Path(volume.split(":")[0]) for volume in services["prometheus"]["volumes"] if volume.startswith(".")]
    assert {path.name for path in mounted} == {"prometheus.yml", "alerts.yaml"}
    assert all((COMPOSE.parent / path).is_file() for path in mounted)
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_image_runs_as_no_root() -> None:
    lines = (DEPLOY / "container" / "Containerfile").read_text().splitlines()
    final = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER 65532:65532" in final
    assert any(line.startswith("HEALTHCHECK") for line in final)
    assert any("--require-hashes" in line for line in lines)
