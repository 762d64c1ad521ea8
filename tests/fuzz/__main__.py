"""`python -m tests.fuzz`: run many cases, or repeat one. Exit code 1 if any fails."""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz.runner import SURFACES, fuzz, make_case, reproducer, run_case
from tests.fuzz.target import Target, running_target


async def _repeat(target: Target, surface: str, seed: int, number: int) -> None:
    await target.refresh()
    case = make_case(surface, seed, number, target)
    sys.stdout.write(f"{reproducer(surface, seed, number, case)}\n")
    answers: Counter[str] = Counter()
    try:
        await run_case(surface, case, target, answers)
    finally:
        sys.stdout.write(f"{dict(answers)}\n{target.up.log[-4_000:]}\n")


def main() -> int:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="number of cases, divided among the surfaces")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--surface", nargs="+", choices=SURFACES, default=SURFACES)
    parser.add_argument("--case", type=int, help="repeat this case of the surface, and show what comes back")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postroom-fuzz-") as directory, running_target(Path(directory)) as target:
        if options.case is not None:
            asyncio.run(_repeat(target, options.surface[0], options.seed, options.case))
            return 0
        cases = dict.fromkeys(options.surface, options.cases // len(options.surface))

        def progress(done: int) -> None:
            sys.stderr.write(f"\r{min(done, options.cases)} of {options.cases} cases")

        report = asyncio.run(fuzz(target, cases, options.seed, progress))
        for failure in report.failures:
            sys.stdout.write(f"\n{failure}\n")
        answers = ", ".join(f"{kind}: {count}" for kind, count in sorted(report.answers.items()))
        sys.stdout.write(f"\n{len(report.failures)} failures; answers by kind: {answers}\n")
        return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main())
