"""`python -m bench`: each row on each engine, beside its floor, as a table and in bench/results.json."""

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
from bench.choice import add_choice, chosen
from bench.databases import Databases
from bench.engine import Engine
from bench.figures import Figure
from bench.h2load import MISSING
from bench.picture import PICTURE, draw
from bench.plan import FULL, QUICK, Plan
from bench.report import Result, keep, load, show
from bench.stand import open_stand
from postroomd.observability import logs


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the mailboxes, and shorter runs")
    add_choice(parser, ROWS)
    parser.add_argument("--memory-minutes", type=float, help="of mixed load, in row memory (default: 10)")
    return parser.parse_args()


async def measure(row: Row, engine: Engine, plan: Plan, databases: Databases) -> list[Figure]:
    """One row on one engine. What can't be measured is a figure too, and none that meets anything."""
    try:
        async with open_stand(engine, plan, databases) as stand:
            return await row.run(stand)
    except Exception as error:
        Console(stderr=True).print_exception()
        return [Figure(what=row.name, note=f"not measured: {type(error).__name__}: {error}")]


async def main(asked: argparse.Namespace) -> int:
    """Measure what was asked for; the exit code, which says only whether it could be measured."""
    console = Console(stderr=True)
    if shutil.which("h2load") is None:
        console.print(MISSING)
        return 2
    task = asyncio.current_task()
    if task:  # what it has started ends with it, on SIGTERM too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    plan = QUICK if asked.quick else FULL
    if asked.memory_minutes is not None:
        plan = replace(plan, memory_seconds=asked.memory_minutes * 60)
    databases = Databases()
    results = []
    try:
        for row, engine in chosen(ROWS, asked):
            console.print(f"{row.name}, {engine}", highlight=False)
            started = monotonic()
            figures = await measure(row, engine, plan, databases)
            result = Result(row.name, engine, round(monotonic() - started, 1), figures)
            results.append(result)
            if not asked.quick:
                keep(result)
    finally:
        await databases.close()
    show(results)
    if not asked.quick:
        PICTURE.write_text(draw(load()))
    return 0 if all(figure.value is not None for result in results for figure in result.figures) else 1


if __name__ == "__main__":
    os.environ["GRPC_VERBOSITY"] = "NONE"
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # a program that is started could crash before it is itself
    logs.configure("error", process="bench")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(arguments())))
