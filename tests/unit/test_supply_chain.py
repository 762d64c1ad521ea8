"""The bill of materials, and the report of known vulnerabilities."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from postroomd import __version__
from tools.audit import audit
from tools.ports import free_address

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"


def write_sbom(path: Path) -> str:
    command = [sys.executable, "-m", "tools.sbom", str(LOCK), str(path)]
    subprocess.run(command, check=True, cwd=ROOT)
    return path.read_text()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bill of materials as `make sbom` writes it, into a new directory."""
    return write_sbom(tmp_path_factory.mktemp("bill") / "new" / "first.json")


def test_the_bill_of_materials_is_valid_and_reproducible(written: str, tmp_path: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    assert write_sbom(tmp_path / "second.json") == written


def test_it_has_every_locked_version_with_its_hashes(written: str) -> None:
    bill = json.loads(written)
    pinned = {line.split()[0] for line in LOCK.read_text().splitlines() if "==" in line.split(" ")[0]}
    listed = {f"{component['name']}=={component['version']}" for component in bill["components"]}
    assert {name.partition("==")[0] for name in pinned} >= {"grpcio", "aiohttp", "sqlalchemy"}
    assert {name.split("[")[0] for name in pinned if "[" not in name} <= listed
    assert all(component["externalReferences"][0]["hashes"] for component in bill["components"])
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("postroom", __version__)
    assert len(bill["dependencies"][0]["dependsOn"]) == len(bill["components"])


# --- The report


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(f"attrs==1.0 --hash=sha256:{'0' * 64}\nidna==3.10 --hash=sha256:{'0' * 64}\n")
    return path


class _Source(BaseHTTPRequestHandler):
    """Knows one advisory, in the format of osv.dev."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        events = [{"introduced": "0"}, {"fixed": "2.0"}]
        affected = [
            {
                "package": {"ecosystem": "PyPI", "name": "attrs"},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
                "versions": ["1.0"],
            }
        ]
        advisory = {"id": "PYSEC-0000-1", "summary": "a fault", "details": "", "affected": affected}
        answer = {"vulns": [advisory]} if query["package"]["name"] == "attrs" else {}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def source() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Source)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    thread.join()
    server.server_close()


def test_known_vulnerabilities_are_reported(lock: Path, source: str) -> None:
    report = audit(lock, source)
    assert report.splitlines() == [
        "1 known vulnerabilities in 2 packages",
        "attrs 1.0: PYSEC-0000-1, fixed in 2.0",
    ]


def test_a_source_that_cannot_be_reached_is_reported(lock: Path) -> None:
    source = f"http://{free_address()}/v1/query"
    assert audit(lock, source).startswith(f"no report: {source} can't be reached (")


def test_a_source_that_does_not_answer_is_given_up(lock: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/query"
        assert audit(lock, source, total_seconds=1.0) == f"no report: {source} has not answered within 1 s"
