"""The report of known vulnerabilities."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tools.audit import audit
from tools.ports import free_address


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
