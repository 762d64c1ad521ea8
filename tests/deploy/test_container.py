"""The image of the Containerfile: what it holds, and its process on a read-only root."""

import json
import os
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.image import Image, run
from tests.e2e.support import STOP_SECONDS
from tests.support.waiting import block_until
from tools.ports import free_address

RUN_SECONDS = 60

ISOLATED = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs -o "uid=$2,gid=$3,mode=0700" tmpfs "$1$4"
root=$1 user=$2 group=$3 && shift 4
exec chroot --userspec="$user:$group" "$root" "$@"
"""
"""What a runtime does for `run --read-only --tmpfs /tmp --volume …` without capabilities. $1: root; $2 and $3: uid and
gid; $4: the volume; then the command."""


@contextmanager
def running(image: Image, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run the image as a runtime does, with a read-only root; stopped with its signal at the end."""
    uid, gid = image.user
    (volume,) = image.config["Volumes"]
    command = image.command(*image.config["Entrypoint"], *image.config["Cmd"], **variables)
    arguments = [str(image.root), str(uid), str(gid), volume, *command]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "sh", "-euc", ISOLATED, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
        try:
            yield process
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0
        except BaseException:
            output.seek(0)
            print(output.read()[-5_000:])  # noqa: T201 - pytest shows it
            raise
        finally:
            process.kill()
            process.wait()


def inside(image: Image, process: subprocess.Popen[str], *command: str, **variables: str) -> int:
    """Run a command in the container of a process, as its user. Returns the exit code."""
    uid, gid = image.user
    enter = ["nsenter", f"--target={process.pid}", "--mount", "--root", f"--setuid={uid}", f"--setgid={gid}"]
    completed = subprocess.run(
        [*enter, *image.command(*command, **variables)], capture_output=True, timeout=RUN_SECONDS, check=False
    )
    return completed.returncode


def test_the_image_is_what_the_documentation_says(image: Image) -> None:
    uid, gid = image.user
    assert (uid, gid) == (65532, 65532)
    assert image.config["Healthcheck"]["Test"][0] == "CMD"
    assert image.config["StopSignal"] == "SIGTERM"
    bill = json.loads((image.root / "usr/share/sbom/postroom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert not list(image.root.glob("opt/postroom/lib/python*/site-packages/pip"))
    assert list(image.root.glob("opt/postroom/lib/python*/site-packages/postroomd/__pycache__/*.pyc"))
    owned = run("find", image.root, "-xdev", "(", "-uid", str(uid), "-o", "-gid", str(gid), ")")
    assert [Path("/") / Path(path).relative_to(image.root) for path in owned.split()] == [Path("/var/lib/postroom")]


def test_the_image_runs_as_its_user_on_a_read_only_root(image: Image) -> None:
    http, grpc = free_address(), free_address()
    variables = {"POSTROOM_HTTP_ADDRESS": http, "POSTROOM_GRPC_ADDRESS": grpc}
    health = image.config["Healthcheck"]["Test"][1:]
    with running(image, **variables) as process:
        urls = (f"http://{http}/readyz", f"grpc://{grpc}")

        def healthy() -> bool:
            assert process.poll() is None
            return all(inside(image, process, *health, HEALTHCHECK_URL=url) == 0 for url in urls)

        block_until(healthy, RUN_SECONDS)
        assert inside(image, process, *health, HEALTHCHECK_URL=f"http://{free_address()}/readyz") == 1
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Uid:\t(\d+)\t\1\t\1\t\1$", status, re.MULTILINE)[1] == "65532"  # type: ignore[index]
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert os.statvfs(f"/proc/{process.pid}/root").f_flag & os.ST_RDONLY
        assert inside(image, process, "test", "-w", "/opt/postroom") == 1
        with urllib.request.urlopen(f"http://{http}/readyz", timeout=RUN_SECONDS) as response:
            assert response.status == 200
