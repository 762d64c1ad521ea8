"""Measure each row on each engine against its baseline; print a table and write bench/results.json."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from dataclasses import replace
from time import monotonic

import uvloop
from rich.console import Console

from bench.catalogue import ROWS, Row
from bench.chart import CHART, draw
from bench.databases import Databases
from bench.engine import Engine
from bench.h2load import MISSING
from bench.harness import open_harness
from bench.measurements import Measurement
from bench.parameters import FULL, QUICK, Parameters
from bench.report import Result, load, print_table, save
from bench.selection import add_selection_options, selected
from postroomd.observability import logs


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the mailboxes and shorter runs; not saved")
    add_selection_options(parser, ROWS, what="row")
    parser.add_argument(
        "--memory-minutes", type=float, metavar="MINUTES", help="duration of the mixed load in row memory (default: 10)"
    )
    return parser.parse_args()


async def measure(row: Row, engine: Engine, parameters: Parameters, databases: Databases) -> list[Measurement]:
    """Measure one row on one engine. A failure is printed, and returned as a measurement without a value."""
    try:
        async with open_harness(engine, parameters, databases) as harness:
            return await row.run(harness)
    except Exception as error:
        Console(stderr=True).print_exception()
        return [Measurement(title=row.name, note=f"not measured: {type(error).__name__}: {error}")]


async def main(arguments: argparse.Namespace) -> int:
    """Measure the selected rows. Returns the exit code: 0 if everything was measured, met or not."""
    console = Console(stderr=True)
    if shutil.which("h2load") is None:
        console.print(MISSING)
        return 2
    task = asyncio.current_task()
    if task:  # cancelled on SIGTERM, so that every started process is ended
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    parameters = QUICK if arguments.quick else FULL
    if arguments.memory_minutes is not None:
        parameters = replace(parameters, memory_seconds=arguments.memory_minutes * 60)
    databases = Databases()
    results = []
    try:
        for row, engine in selected(ROWS, arguments):
            console.print(f"{row.name}, {engine}", highlight=False)
            started = monotonic()
            measurements = await measure(row, engine, parameters, databases)
            result = Result(row.name, engine, round(monotonic() - started, 1), measurements)
            results.append(result)
            if not arguments.quick:
                save(result)
    finally:
        await databases.close()
    print_table(results)
    if not arguments.quick:
        CHART.write_text(draw(load()))
    return 0 if all(one.value is not None for result in results for one in result.measurements) else 1


if __name__ == "__main__":
    os.environ["GRPC_VERBOSITY"] = "NONE"
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # inherited by the started processes, which start others themselves
    logs.configure("error", process="bench")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(parse_arguments())))
