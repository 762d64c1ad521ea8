"""`postroom doctor`: what it finds on an installation that runs, and on one that does not."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.support import Up, database_url, run
from tests.e2e.test_cli import succeed
from tools.ports import free_port


def flags(up: Up) -> list[str]:
    http = up.environment["SCW_API_URL"].removeprefix("http://")
    return [f"--database-url={database_url(up.directory)}", f"--http-address={http}"]


def by_check(output: str) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in json.loads(output)}


def test_a_running_installation_is_well(postroom: Up) -> None:
    arguments = [*flags(postroom), f"--grpc-address={postroom.grpc_address}"]
    found = by_check(succeed("doctor", "--output=json", *arguments))
    expected = {"database", "sqlite version", "journal mode", "write-ahead log", "isolation", "domains", "clock"}
    expected |= {"mail views", "database file", "dns lookups"}
    assert found.keys() >= expected | {"worker", "backlog", "service", "gateway"}
    assert {finding["condition"] for finding in found.values()} == {"ok"}
    assert found["journal mode"]["detail"] == "wal"
    assert "has looked up 0 of" in found["dns lookups"]["detail"]  # `up` trusts
    trusting = by_check(succeed("doctor", "--output=json", *arguments, "--domain-validation=trust"))
    assert trusting["dns lookups"]["detail"].startswith(
        "off, since --domain-validation is trust: nothing was looked up"
    )
    header, *rows = succeed("doctor", *arguments).splitlines()
    assert header.split() == ["check", "condition", "detail", "remedy"]
    assert len(rows) == len(found)


def test_what_does_not_respond_has_a_remedy_and_exit_code_1(tmp_path: Path) -> None:
    succeed("migrate", f"--database-url={database_url(tmp_path)}")
    completed = run(
        "doctor",
        "--output=json",
        f"--database-url={database_url(tmp_path)}",
        f"--grpc-address=127.0.0.1:{free_port()}",
        f"--http-address=127.0.0.1:{free_port()}",
    )
    assert completed.returncode == 1
    found = by_check(completed.stdout)
    failed = {name for name, finding in found.items() if finding["condition"] == "error"}
    assert failed == {"service", "gateway", "worker"}
    assert all(found[name]["remedy"].startswith("start `postroom ") for name in failed)


def test_a_missing_database_is_a_finding(tmp_path: Path) -> None:
    completed = run("doctor", "--output=json", f"--database-url={database_url(tmp_path)}")
    assert completed.returncode == 1
    finding = by_check(completed.stdout)["database"]
    assert finding["condition"] == "error"
    assert "postroom migrate" in finding["detail"] + finding["remedy"]
