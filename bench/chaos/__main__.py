"""`python -m bench.chaos`: each fault on each engine, and a table of what it left; exit code 1 where that is amiss."""

import argparse
import asyncio
import os
import signal
import sys
from time import monotonic

import uvloop
from rich.console import Console

from bench.chaos.catalogue import SCENARIOS, Scenario
from bench.chaos.outcome import Outcome
from bench.chaos.report import Result, keep, show
from bench.chaos.space import NeedsRoot
from bench.choice import add_choice, chosen
from bench.engine import Engine
from postroomd.observability import logs


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of each count")
    add_choice(parser, SCENARIOS)
    return parser.parse_args()


async def attempt(scenario: Scenario, engine: Engine, count: int) -> Result:
    """One scenario on one engine. What it can't do is an outcome too, and none that holds."""
    started = monotonic()
    try:
        async with scenario.opens(engine) as arena:
            outcome = await scenario.run(arena, count)
    except NeedsRoot as error:
        outcome = Outcome(seen="not run", broken=[str(error)])
    except Exception as error:
        Console(stderr=True).print_exception()
        outcome = Outcome(seen="came to no end", broken=[f"{type(error).__name__}: {error}"])
    return Result(scenario.name, scenario.fault, engine, count, round(monotonic() - started, 1), outcome)


async def main(asked: argparse.Namespace) -> int:
    """Run what was asked for; the exit code."""
    console = Console(stderr=True)
    task = asyncio.current_task()
    if task:  # what it has started ends with it, on SIGTERM too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    for scenario, engine in chosen(SCENARIOS, asked):
        count = scenario.quick if asked.quick else scenario.full
        console.print(f"{scenario.fault}, {engine}: {count:,}", highlight=False)
        result = await attempt(scenario, engine, count)
        results.append(result)
        keep(result)
    show(results)
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    os.environ["GRPC_VERBOSITY"] = "NONE"  # lost connections are what this is about
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # a program that is started could crash before it is itself
    logs.configure("error", process="chaos")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(arguments())))
