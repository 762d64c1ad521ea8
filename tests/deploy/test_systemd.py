"""The systemd units, installed as documented on a machine that systemd has booted: a container of systemd-nspawn."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.image import ROOT, Image, run
from tests.support.deploy_files import DEPLOY, program, replaced
from tests.support.documentation import block

BOOT_SECONDS = 600
OPERATOR = """
[Unit]
Description=The operator, once the machine is up
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash -eux -o pipefail /operator/commands
ExecStopPost=/bin/bash -c 'echo $EXIT_STATUS > /operator/status; journalctl --no-pager > /operator/journal'
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=append:/operator/output
StandardError=append:/operator/output
TimeoutStartSec=480
"""

ONE_MACHINE = """
cd /clone
{install}
settings=/etc/postroom/postroom.env
url=sqlite+aiosqlite:////var/lib/postroom/postroom.db
sed --in-place "s#^POSTROOM_DATABASE_URL=.*#POSTROOM_DATABASE_URL=$url#" $settings
sed --in-place "s#^POSTROOM_GATEWAY_SECRET=.*#POSTROOM_GATEWAY_SECRET=$(head -c 32 /dev/urandom | base64)#" $settings
systemctl enable --now postroom
until test -e /var/lib/postroom/first-key.env; do sleep 0.2; done
set -a; . /etc/postroom/postroom.env; . /var/lib/postroom/first-key.env; set +a
/opt/postroom/bin/postroom domains create example.org

doctor() {{ sudo -u postroom --preserve-env /opt/postroom/bin/postroom doctor; }}
until doctor; do sleep 0.2; done
systemctl restart postroom
until doctor; do sleep 0.2; done
systemctl is-active postroom
systemctl show --property NRestarts postroom | grep '=0$'
systemctl disable --now postroom
test "$(systemctl show --property Result --value postroom)" = success
"""

SEPARATE_UNITS = """
systemctl enable --now postroom-serve postroom-worker postroom-gateway
until doctor; do sleep 0.2; done
for unit in serve worker gateway; do
    systemctl is-active postroom-$unit
    systemctl show --property NRestarts postroom-$unit | grep '=0$'
done
for port in 9464 9465 9466; do
    until python -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:$port/metrics').status)"; do
        sleep 0.2
    done
done
systemctl kill --signal KILL postroom-serve
until test "$(systemctl show --property NRestarts --value postroom-serve)" = 1; do sleep 0.2; done
until doctor; do sleep 0.2; done
/opt/postroom/bin/postroom domains list --output csv | grep example.org
systemctl stop postroom-gateway postroom-worker postroom-serve
for unit in serve worker gateway; do
    test "$(systemctl show --property Result --value postroom-$unit)" = success
done
"""


@dataclass(frozen=True)
class Machine:
    """A root file system to boot."""

    root: Path

    def boot(self, commands: str) -> str:
        """Boot it, run commands as root, and power it off. Returns what they printed. Fails the test with them."""
        operator = self.root / "operator"
        operator.mkdir()
        (operator / "commands").write_text(commands)
        unit = self.root / "etc" / "systemd" / "system" / "operator.service"
        unit.write_text(OPERATOR)
        wanted = unit.parent / "multi-user.target.wants"
        wanted.mkdir(exist_ok=True)
        (wanted / unit.name).symlink_to(f"../{unit.name}")
        flags = ("--boot", "--quiet", "--register=no", "--keep-unit", "--private-network", f"--bind-ro={ROOT}:/clone")
        nspawn = [program("systemd-nspawn", "systemd-container"), f"--directory={self.root}", *flags]
        subprocess.run(nspawn, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_SECONDS, check=True)
        output = (operator / "output").read_text()
        journal = (operator / "journal").read_text()
        assert (operator / "status").read_text().strip() == "0", f"{output[-3_000:]}\n{journal[-3_000:]}"
        return output


@pytest.fixture
def machine(base: Path, image: Image, tmp_path: Path) -> Iterator[Machine]:
    root = tmp_path / "root"
    root.mkdir()
    run("tar", "--extract", "--file", base, "--directory", root)
    shutil.copytree(image.root / "opt" / "postroom", root / "opt" / "postroom", symlinks=True)
    yield Machine(root)
    shutil.rmtree(root)


def test_the_units_run_as_documented(machine: Machine) -> None:
    install = replaced(block("install.md", "systemd-sysusers"), {"   # then edit it": ""})
    output = machine.boot(ONE_MACHINE.format(install=install) + SEPARATE_UNITS)
    assert output.count("200") >= 3
    assert (DEPLOY / "systemd" / "postroom.service").read_text() == (
        machine.root / "etc/systemd/system/postroom.service"
    ).read_text()
