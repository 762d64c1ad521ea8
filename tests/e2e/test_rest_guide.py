"""docs/rest.md: its commands, run in order against a running Postroom."""

import re
import subprocess
from pathlib import Path

from postroomd.gateway.errors import ERROR_TYPES
from tests.e2e.support import Up, clean_environment

GUIDE = (Path(__file__).parents[2] / "docs" / "rest.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_the_guide_runs_as_documented(postroom: Up) -> None:
    script = "set -eu -o pipefail\n" + "".join(f"{block}\necho\necho ---\n" for block in BLOCK.findall(GUIDE))
    done = subprocess.run(
        ["bash", "-c", script],
        env=clean_environment(**postroom.environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, domain, batch, pages, conditions, errors, deletion, _ = done.stdout.split("---\n")
    assert '"name":"rest.example"' in domain
    assert '"email":"bob@rest.example"' in batch
    assert "idempotency-replayed: true" in batch.lower()
    assert pages.count('"mailboxes":[{') == 2
    assert pages.count('"total_count":2') == 2
    status, precondition = conditions.strip().split("\n")
    assert status == "304"
    assert '"type":"precondition_failed"' in precondition
    assert '"argument_name":"nmae","reason":"unknown"' in errors
    assert '"argument_name":"name"' in errors
    assert '"type":"conflict"' in errors
    assert '"status":"deleting"' in deletion


def test_the_guide_lists_every_error_type() -> None:
    section = GUIDE.partition("## Errors")[2]
    assert {kind for kind in ERROR_TYPES if f"`{kind}`" in section} == ERROR_TYPES.keys()
