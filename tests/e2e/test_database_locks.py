"""One service and one worker per SQLite file, as an operator meets it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.support import Up, child_pids, run, run_process


def test_a_second_service_and_worker_are_refused_and_the_first_go_on(postroom: Up, tmp_path: Path) -> None:
    pids = child_pids(postroom.process.pid)
    link = tmp_path / "link.db"
    link.symlink_to(postroom.directory / "data" / "postroom.db")
    url = f"--database-url=sqlite+aiosqlite:///{link}"
    free = ["--grpc-address=127.0.0.1:0"]
    commands = [["serve", url, *free], ["worker", url], ["up", url, "--http-address=127.0.0.1:0", *free]]
    with ThreadPoolExecutor(3) as pool:
        second_service, second_worker, second_up = pool.map(lambda command: run_process(*command), commands)

    def refusal(name: str, process: str, prefix: str = "") -> str:
        return f"postroom: {prefix}{link}: process {pids[process]} is the {name} of this database: stop it first"

    assert (second_service.returncode, second_worker.returncode, second_up.returncode) == (1, 1, 1)
    assert [line for line in second_service.stderr.splitlines() if line[0] != "{"] == [refusal("service", "serve")]
    assert [line for line in second_worker.stderr.splitlines() if line[0] != "{"] == [refusal("worker", "worker")]
    # Whichever of the two is refused first ends the others.
    refusals = {refusal("service", "serve", "serve: "), refusal("worker", "worker", "worker: ")}
    assert len(refusals & set(second_up.stderr.splitlines())) == 1
    assert second_up.stdout == ""
    # Other commands take no lock.
    assert run("keys", "list", url).returncode == 0
    assert postroom.get("/readyz") == 200
