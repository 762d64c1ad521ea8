"""Schemathesis: every response of a running gateway, errors included, matches the OpenAPI document."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.support import clean_environment, start, terminate

EXAMPLES = os.environ.get("POSTROOM_OPENAPI_EXAMPLES", "5")
SEED = os.environ.get("POSTROOM_FUZZ_SEED", "1")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
)


def test_responses_match_the_document(tmp_path: Path) -> None:
    up = start(tmp_path)
    try:
        command: list[str | Path] = [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{up.environment['SCW_API_URL']}/openapi.json",
            f"--header=X-Auth-Token: {up.environment['SCW_SECRET_KEY']}",
            f"--checks={','.join(CHECKS)}",
            "--phases=examples,coverage,fuzzing,stateful",
            f"--max-examples={EXAMPLES}",
            f"--seed={SEED}",
            "--generation-database=none",
            "--no-color",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-20_000:]
        assert "26/26" in done.stdout
        assert "Traceback" not in up.log
    finally:
        terminate(up)
