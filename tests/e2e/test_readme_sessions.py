"""The README's first session: all its commands, run against a running Postroom."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.support import Up, clean_environment

README = Path(__file__).parents[2] / "README.md"
SESSION = re.compile(r"<!-- session: (\w+) -->\n\n```(\w+)\n(.*?)```", re.DOTALL)
SECONDS = 60


def blocks() -> list[tuple[str, str]]:
    """Return the blocks of the session in order: language and text."""
    matches = SESSION.findall(README.read_text(encoding="utf-8"))
    assert all(marker == fence for marker, fence, _ in matches)
    return [(language, text) for language, _, text in matches]


@pytest.fixture
def session_environment(postroom: Up) -> dict[str, str]:
    return clean_environment(**postroom.environment, POSTROOM_GRPC_ADDRESS=postroom.grpc_address)


def test_every_block_of_the_first_session_is_marked() -> None:
    readme = README.read_text(encoding="utf-8")
    section = readme.partition("## A first session")[2].partition("\n## ")[0]
    assert section.count("\n```") == 2 * len(blocks())
    assert [language for language, _ in blocks()] == ["python", "sh", "python"]


def test_the_first_session_runs_as_documented(session_environment: dict[str, str], tmp_path: Path) -> None:
    printed = []
    for language, text in blocks():
        script = tmp_path / f"session.{language}"
        # Unlike in an interactive shell, a failed command ends the session.
        script.write_text("set -eu -o pipefail\n" + text.replace("curl -sS", "curl -sS --fail-with-body"))
        if language == "python":
            script.write_text(text)
        command = [sys.executable, str(script)] if language == "python" else ["bash", str(script)]
        completed = subprocess.run(
            command, capture_output=True, text=True, env=session_environment, timeout=SECONDS, check=False
        )
        printed.append(completed.stdout)
        if language == "sh":
            # The last call demonstrates an error.
            assert completed.returncode == 22, completed.stdout + completed.stderr
        else:
            assert completed.returncode == 0, completed.stdout + completed.stderr
    sdk, curl, grpc = printed
    assert "publish xn--bcher-kva.example. 10 mx.mail.example." in sdk
    assert "xn--bcher-kva.example is ready" in sdk
    assert "info@xn--bcher-kva.example is an alias of ann@xn--bcher-kva.example which is ready" in sdk
    assert '"email":"ann@xn--bcher-kva.example"' in curl
    assert '"domain_validation":{' in curl
    assert '"email":"bob@example.org"' in curl
    assert '"status":"deleting"' in curl
    assert '"argument_name":"mailboxes[0].local_part"' in curl
    assert "ann@xn--bcher-kva.example READY" in grpc
