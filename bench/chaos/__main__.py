"""Inject each fault on each engine, and print a table; the exit code is 1 if any scenario fails."""

import argparse
import asyncio
import os
import signal
import sys
from time import monotonic

import uvloop
from rich.console import Console

from bench.chaos.catalogue import SCENARIOS, Scenario
from bench.chaos.disk import NeedsRoot
from bench.chaos.outcome import Outcome
from bench.chaos.report import Result, print_table, save
from bench.engine import Engine
from bench.selection import add_selection_options, selected
from postroomd.observability import logs


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the faults")
    add_selection_options(parser, SCENARIOS, what="scenario")
    return parser.parse_args()


async def run(scenario: Scenario, engine: Engine, count: int) -> Result:
    """Run one scenario on one engine. An error is printed, and returned as a failed result."""
    started = monotonic()
    try:
        async with scenario.open_harness(engine) as harness:
            outcome = await scenario.run(harness, count)
    except NeedsRoot as error:
        outcome = Outcome(summary="not run", violations=[str(error)])
    except Exception as error:
        Console(stderr=True).print_exception()
        outcome = Outcome(summary="not completed", violations=[f"{type(error).__name__}: {error}"])
    return Result(scenario.name, scenario.fault, engine, count, round(monotonic() - started, 1), outcome)


async def main(arguments: argparse.Namespace) -> int:
    """Run the selected scenarios. Returns the exit code."""
    console = Console(stderr=True)
    task = asyncio.current_task()
    if task:  # cancelled on SIGTERM, so that every started process is ended
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    for scenario, engine in selected(SCENARIOS, arguments):
        count = scenario.quick_count if arguments.quick else scenario.count
        console.print(f"{scenario.fault}, {engine}: {count:,}", highlight=False)
        result = await run(scenario, engine, count)
        results.append(result)
        save(result)
    print_table(results)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    os.environ["GRPC_VERBOSITY"] = "NONE"  # lost connections are expected
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # inherited by the started processes, which start others themselves
    logs.configure("error", process="chaos")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(parse_arguments())))
