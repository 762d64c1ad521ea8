"""The systemd units, the nginx example and the health check of containers, by the programs that read them."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.support import start, terminate
from tests.support.certificates import Authority
from tests.support.deploy_files import DEPLOY, configured, program
from tests.support.waiting import block_until
from tools.ports import free_port

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PAGE = DEPLOY.parent / "docs" / "install.md"


def score(unit: Path) -> float:
    """Return the exposure level of a unit: 0 (none) to 10."""
    command = [program("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", str(unit)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", output)[0])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_documented_score_is_the_units(unit: Path) -> None:
    documented = re.search(rf"\| `{re.escape(unit.name)}` \|.*\| ([\d.]+) \|", PAGE.read_text())
    assert documented
    assert score(unit) == float(documented[1])
    assert score(unit) <= 1.5


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_knows_every_line(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/postroom/bin/postroom", "/bin/true"))
    command = [program("systemd-analyze", "systemd"), "verify", "--man=no", str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in result.stderr.splitlines() if unit.name in line] == []


def test_nginx_accepts_its_example(tmp_path: Path) -> None:
    files = Authority(tmp_path / "tls").issue("server", "mailboxes.example.com")
    example = configured(
        "nginx/postroom.conf",
        {
            "/etc/nginx/postroom.pem": str(files.cert),
            "/etc/nginx/postroom.key": str(files.key),
            "listen 443": f"listen {free_port()}",
            "listen 50443": f"listen {free_port()}",
        },
        tmp_path,
    )
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/nginx.pid;\nevents {{}}\nhttp {{ access_log off; include {example}; }}\n")
    command = [program("nginx", "nginx"), "-t", "-q", "-e", "stderr", "-c", str(main)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_health_check_follows_gateway_and_service(tmp_path: Path) -> None:
    def check(url: str) -> int:
        command = [sys.executable, str(DEPLOY / "container" / "healthcheck.py"), *([url] if url else [])]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    def passes(url: str) -> bool:
        return check(url) == 0

    up = start(tmp_path)
    urls = (f"{up.environment['SCW_API_URL']}/readyz", f"grpc://{up.grpc_address}")
    try:
        for url in urls:
            block_until(partial(passes, url))  # it allows for 3 s, as a runtime repeats it
    finally:
        terminate(up)
    assert [check(url) for url in urls] == [1, 1]
    assert check("") == 0


def test_the_bill_of_materials_of_the_image_is_written_by_make_sbom(tmp_path: Path) -> None:
    path = tmp_path / "postroom.cdx.json"
    command = [sys.executable, "-m", "tools.sbom", "requirements.lock", str(path)]
    subprocess.run(command, check=True, cwd=DEPLOY.parent)
    assert json.loads(path.read_text())["bomFormat"] == "CycloneDX"
    assert "COPY dist/postroom.cdx.json" in (DEPLOY / "container" / "Containerfile").read_text()
