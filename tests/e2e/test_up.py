"""`postroom up`: starts everything, prints the addresses, and leaves no process behind."""

import json
import os
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.support import STOP_SECONDS, VARIABLES, Up, child_pids, is_pending, is_running, request, suspend
from tests.support.metrics import scrape
from tests.support.waiting import block_until


def test_the_first_start_prints_the_variables_and_the_addresses(postroom: Up) -> None:
    *exports, file, grpc, rest = postroom.output.splitlines()
    environment = postroom.environment
    assert exports == [f"export {name}={environment[name]}" for name in VARIABLES if name != "SCW_SECRET_KEY"]
    assert file == f"# All variables are written to {postroom.env_file}"
    assert grpc == f"# gRPC listens on {postroom.grpc_address}"
    assert rest == f"# REST listens on {environment['SCW_API_URL'].removeprefix('http://')}"


def test_with_an_env_file_the_secret_is_in_it_alone(postroom: Up) -> None:
    secret = postroom.environment["SCW_SECRET_KEY"]
    assert secret not in postroom.output
    assert secret not in postroom.log


def test_the_env_file_has_the_five_variables_and_is_private(postroom: Up) -> None:
    assert tuple(postroom.environment) == VARIABLES
    assert stat.S_IMODE(postroom.env_file.stat().st_mode) == 0o600


def test_the_database_is_private(postroom: Up) -> None:
    data = postroom.directory / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()} == {0o600}


def test_a_ready_instance_serves_requests(postroom: Up) -> None:
    assert postroom.get("/readyz") == 200
    assert postroom.get("/mailbox/v1alpha1/domains", postroom.environment["SCW_SECRET_KEY"]) == 200
    assert postroom.get("/mailbox/v1alpha1/domains") == 401
    host, port = postroom.grpc_address.split(":")
    with socket.create_connection((host, int(port)), 5):
        pass


def test_log_lines_are_json_with_their_process_and_no_secret(postroom: Up) -> None:
    assert postroom.error_lines == []
    lines = [json.loads(line) for line in postroom.log.splitlines()]
    assert {"serve", "worker"} <= {line["process"] for line in lines}
    assert postroom.environment["SCW_SECRET_KEY"] not in postroom.log


def test_the_second_start_prints_only_the_url_and_the_key_works(start_postroom: Starter) -> None:
    first = start_postroom()
    secret = first.environment["SCW_SECRET_KEY"]
    assert first.stop() == 0
    second = start_postroom()
    url = second.environment["SCW_API_URL"]
    assert second.environment == {"SCW_API_URL": url}
    assert second.output.splitlines()[0] == f"export SCW_API_URL={url}"
    assert "SECRET" not in second.output
    assert second.get("/mailbox/v1alpha1/domains", secret) == 200


def test_ctrl_c_finishes_requests_in_progress_and_leaves_no_process(start_postroom: Starter) -> None:
    up = start_postroom("--metrics-address=127.0.0.1:0", "--hash-threads=1", "--argon2-time-cost=4")
    pids = child_pids(up.process.pid)
    assert len(pids) == 3
    metrics = up.output.splitlines()[-1].removeprefix("# Metrics are served on ")
    url, secret = up.environment["SCW_API_URL"] + "/mailbox/v1alpha1", up.environment["SCW_SECRET_KEY"]
    request(f"{url}/domains", secret, b'{"name": "example.org"}')
    domain_id = _only_domain(url, secret)
    batch = {
        "domain_id": domain_id,
        "mailboxes": [{"local_part": f"m{n}", "password": f"correct horse {n} battery"} for n in range(40)],
    }
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(request, f"{url}/batch-create-mailboxes", secret, json.dumps(batch).encode())
        block_until(lambda: scrape(metrics).value("postroom_passwords_waiting") == 40)
        assert up.stop(signal.SIGINT) == 0
        assert response.result() == 200
    assert not any(map(is_running, pids.values()))
    assert up.error_lines == []


def _only_domain(url: str, secret: str) -> str:
    import urllib.request

    outgoing = urllib.request.Request(f"{url}/domains", headers={"X-Auth-Token": secret})  # noqa: S310
    with urllib.request.urlopen(outgoing) as response:  # noqa: S310
        (domain,) = json.load(response)["domains"]
    return str(domain["id"])


def test_a_signal_during_the_start_stops_it_with_exit_code_0(start_postroom: Starter) -> None:
    up = start_postroom(wait=False)
    block_until(lambda: child_pids(up.process.pid))
    pids = child_pids(up.process.pid)
    assert up.stop(signal.SIGINT) == 0
    assert not any(map(is_running, pids.values()))
    assert up.output == ""


@pytest.mark.parametrize(
    ("name", "number", "reason"),
    [
        ("gatewa", signal.SIGKILL, "gateway was killed by SIGKILL"),  # process names are truncated
        ("worker", signal.SIGTERM, "worker exited with code 0"),
    ],
)
def test_the_exit_of_a_process_is_reported_and_stops_the_others(
    start_postroom: Starter, name: str, number: int, reason: str
) -> None:
    up = start_postroom("--no-restart")
    pids = child_pids(up.process.pid)
    os.kill(pids[name], number)
    assert up.wait() == 1
    assert up.error_lines == [f"postroom: {reason}"]
    assert not any(map(is_running, pids.values()))


def test_a_trial_ends_with_the_first_process(start_postroom: Starter) -> None:
    up = start_postroom("--clock=127.0.0.1:0")
    os.kill(child_pids(up.process.pid)["worker"], signal.SIGKILL)
    assert up.wait() == 1
    assert up.error_lines == ["postroom: worker was killed by SIGKILL"]


def logged(up: Up, event: str) -> list[dict[str, Any]]:
    """The log lines of an event."""
    lines = [json.loads(line) for line in up.log.splitlines() if line.startswith("{") and line.endswith("}")]
    return [line for line in lines if line["event"] == event]


def test_a_killed_process_is_restarted_on_its_address_and_the_gateway_stays_trusted(
    start_postroom: Starter, tmp_path: Path
) -> None:
    # Only a gateway whose secret the service accepts may report the addresses of clients.
    up = start_postroom("--metrics-address=127.0.0.1:0")
    secret, first = up.environment["SCW_SECRET_KEY"], child_pids(up.process.pid)
    for number, name in enumerate(("gatewa", "serve", "worker"), 1):
        os.kill(child_pids(up.process.pid)[name], signal.SIGKILL)
        block_until(lambda: len(logged(up, "process restarted")) == number)  # noqa: B023 # called at once
    second = child_pids(up.process.pid)
    assert second.keys() == first.keys()
    assert not set(second.values()) & set(first.values())
    block_until(lambda: up.get("/readyz") == 200)
    assert up.get("/mailbox/v1alpha1/domains", secret) == 200
    with socket.create_connection((up.grpc_address.partition(":")[0], int(up.grpc_address.partition(":")[2])), 5):
        pass
    reasons = [line["reason"] for line in logged(up, "process exited, restarting it")]
    assert reasons == [f"{name} was killed by SIGKILL" for name in ("gateway", "serve", "worker")]
    secrets = {gateway_secret(pid) for name, pid in second.items() if name != "worker"}
    assert len(secrets) == 1
    assert secrets.isdisjoint({"", None})
    assert up.stop() == 0
    assert not any(map(is_running, second.values()))
    assert up.error_lines == []


def gateway_secret(pid: int) -> str | None:
    """The gateway secret in the environment of a restarted process."""
    variables = dict(each.partition("=")[::2] for each in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return variables.get("POSTROOM_GATEWAY_SECRET")


def test_a_signal_during_the_delay_of_a_restart_stops_at_once(start_postroom: Starter) -> None:
    up = start_postroom()
    pids = child_pids(up.process.pid)
    os.kill(pids["worker"], signal.SIGKILL)
    block_until(lambda: logged(up, "process exited, restarting it"))
    assert up.stop() == 0
    assert not any(map(is_running, pids.values()))
    assert logged(up, "process restarted") == []


def test_restarted_processes_exit_if_the_supervisor_is_killed(start_postroom: Starter) -> None:
    up = start_postroom()
    os.kill(child_pids(up.process.pid)["serve"], signal.SIGKILL)
    block_until(lambda: logged(up, "process restarted"))
    pids = child_pids(up.process.pid)
    assert len(pids) == 3
    up.process.kill()
    up.wait()
    block_until(lambda: not any(map(is_running, pids.values())), STOP_SECONDS)


def test_children_exit_if_the_supervisor_is_killed(start_postroom: Starter) -> None:
    up = start_postroom()
    pids = child_pids(up.process.pid)
    up.process.kill()
    up.wait()
    block_until(lambda: not any(map(is_running, pids.values())), STOP_SECONDS)


def test_a_process_that_does_not_stop_is_killed(start_postroom: Starter) -> None:
    up = start_postroom("--drain-seconds=0")
    pids = child_pids(up.process.pid)
    suspend(pids["gatewa"])
    assert up.stop() == 1
    # On a busy machine, those that are stopped after it may not exit within 2 s either.
    assert up.error_lines[0] == "postroom: gateway has not exited within 2 s: killing it"
    assert not any(map(is_running, pids.values()))


def test_a_second_signal_kills_everything_at_once(start_postroom: Starter) -> None:
    up = start_postroom("--drain-seconds=60")
    pids = child_pids(up.process.pid)
    suspend(pids["gatewa"])
    up.process.send_signal(signal.SIGINT)
    block_until(lambda: is_pending(pids["gatewa"], signal.SIGTERM))  # up has handled the first signal
    assert up.stop(signal.SIGINT) == 130
    block_until(lambda: not any(map(is_running, pids.values())))


@pytest.mark.parametrize(("flag", "name"), [("--grpc-address", "serve"), ("--http-address", "gateway")])
def test_a_port_in_use_is_one_line(start_postroom: Starter, flag: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        up = start_postroom(f"{flag}={address}", wait=False)
        assert up.wait() == 1
    (line,) = up.error_lines
    assert line.startswith(f"postroom: {name}: can't listen for ")
    assert address in line
    assert up.output == ""


def test_an_env_file_that_can_not_be_written_is_one_line(start_postroom: Starter, tmp_path: Path) -> None:
    up = start_postroom(f"--env-file={tmp_path}/nowhere/env", wait=False)
    assert up.wait() == 1
    (line,) = up.error_lines
    path = f"{tmp_path}/nowhere/env"
    assert line == f"postroom: --env-file: can't create {path}: it is a directory, or its directory does not exist"
    assert not (tmp_path / "data").exists()


def test_ipv6_addresses_work(start_postroom: Starter) -> None:
    up = start_postroom("--http-address=[::1]:0", "--grpc-address=[::1]:0")
    url = up.environment["SCW_API_URL"]
    assert url.startswith("http://[::1]:")
    assert f"export SCW_API_URL='{url}'" in up.output  # quoted: [ ] is a pattern in zsh
    assert up.get("/readyz") == 200
