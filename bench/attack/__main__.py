"""`python -m bench.attack`: run the scenarios, each also with a control, and print what the victim experienced.

The control uses as much processor time as the attacker did, so that the comparison shows what the attack costs beyond
the processor. Exit code 1 if a scenario misses its target.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.attack.report import Experience, is_within_target, line
from bench.attack.scenarios import SCENARIOS, Scenario
from bench.attack.seed import add_mailboxes
from bench.attack.stack import Stack, resident_mb, running, stop
from tests.support.postgres import running_server

SECONDS = 10.0
WARM_UP_SECONDS = 1.0
SAMPLE_SECONDS = 0.1


class _PeakMemory:
    """Samples the resident memory of service and gateway in a thread."""

    def __init__(self, stack: Stack) -> None:
        self._pids = (stack.service_pid, stack.gateway_pid)
        self.peaks = [0.0, 0.0]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peaks = [max(peak, resident_mb(pid)) for peak, pid in zip(self.peaks, self._pids, strict=True)]


def _experience(scenario: Scenario, stack: Stack, seconds: float) -> Experience:
    address = stack.grpc_address if scenario.victim == "grpc" else stack.http_address
    victim = stack.victim
    command = [sys.executable, "-m", "bench.attack.victim", scenario.victim, address, victim.token, victim.mailbox_id]
    with _PeakMemory(stack) as memory:
        done = subprocess.run([*command, f"--seconds={seconds}"], check=True, capture_output=True)  # noqa: S603
    result = json.loads(done.stdout)
    latencies = result["latencies"] or [float("inf")]
    return Experience(
        outcomes=result["outcomes"],
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[int(len(latencies) * 0.99)],
        service_mb=memory.peaks[0],
        gateway_mb=memory.peaks[1],
    )


@contextmanager
def _processes(commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """Run processes during the block. Raises RuntimeError if one has ended by itself: it would attack nothing."""
    with ExitStack() as cleanups:
        started = [subprocess.Popen(command) for command in commands]  # noqa: S603
        for process in started:
            cleanups.callback(stop, process)
        time.sleep(WARM_UP_SECONDS)
        yield
        for process in started:
            if process.poll() is not None:
                raise RuntimeError(f"the process has ended with {process.returncode}: {process.args!r}")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(scenario: Scenario, database_url: str, seconds: float) -> tuple[Experience, Experience]:
    """Run one scenario and its control, each on the same running product. Returns both experiences."""
    with tempfile.TemporaryDirectory(prefix="postroom-attack-") as directory, ExitStack() as cleanups:
        url = database_url or f"sqlite+aiosqlite:///{directory}/postroom.db"
        stack = cleanups.enter_context(running(Path(directory), url, scenario.flags))
        if scenario.seeded_mailboxes:
            add_mailboxes(url, stack.attacker, scenario.seeded_mailboxes)
        arguments: Mapping[str, object] = scenario.arguments(stack)
        attack = [sys.executable, "-m", "bench.attack.attackers", scenario.attack, json.dumps(arguments)]
        before, started = _children_seconds(), time.monotonic()
        with _processes([attack]):
            attacked = _experience(scenario, stack, seconds)
        cores = (_children_seconds() - before) / (time.monotonic() - started)
        time.sleep(WARM_UP_SECONDS)
        shares = [min(1.0, cores - taken) for taken in range(int(cores) + 1)]
        with _processes([[sys.executable, "-m", "bench.attack.control", f"{share:.3f}"] for share in shares]):
            control = _experience(scenario, stack, seconds)
        return attacked, control


@contextmanager
def _databases(engine: str) -> Iterator[Callable[[], str]]:
    """Give the block a function that returns the URL of a new database, "" for an SQLite file of the run's own."""
    if engine == "sqlite":
        yield lambda: ""
        return
    numbers = itertools.count()
    with running_server(settings={}) as server:

        def new() -> str:
            name = f"attack{next(numbers)}"
            server.sql(f"CREATE DATABASE {name}")
            return server.url(name)

        yield new


def main() -> int:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m bench.attack", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[each.name for each in SCENARIOS], help="run these scenarios only")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of each run")
    options = parser.parse_args()
    missed = 0
    with _databases(options.engine) as new_url:
        for scenario in SCENARIOS:
            if options.only and scenario.name not in options.only:
                continue
            attacked, control = run(scenario, new_url(), options.seconds)
            missed += not is_within_target(attacked, control)
            sys.stdout.write(line(scenario.name, attacked, control) + "\n")
            sys.stdout.flush()
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
