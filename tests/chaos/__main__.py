"""`make chaos SEEDS="1 2 3"`, `make chaos SEEDS=1-200`: play scenarios; the last line is a summary."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .bench import Bench
from .play import Outcome, Play
from .scenario import scenario
from .seeds import parse_seeds, say

NAMES = {
    "lost": "lost",
    "duplicated": "duplicated",
    "wrong": "wrong rows",
    "unreconciled": "unreconciled",
    "fence": "fences broken",
    "failed": "unexpected ends",
    "noisy": "tracebacks",
    "stuck": "stuck",
    "restless": "restless reruns",
}


def play(numbers: list[int], folder: Path) -> list[Outcome]:
    """Play the scenarios of seeds; says what it does as it goes."""
    outcomes = []
    with Bench(folder) as bench:
        for number in numbers:
            chosen = scenario(number)
            say(str(chosen))
            outcome = Play(chosen, bench).run()
            outcomes.append(outcome)
            verdict = "ok" if not outcome.findings.problems else "FAILED"
            say(f"  {verdict} in {outcome.seconds:.0f} s: {'; '.join(outcome.story)}")
            for problem in outcome.findings.problems:
                say(f"  {problem}")
            if outcome.findings.problems:
                say(f"  replay: make chaos SEEDS={number}; its files are in {folder}/seed{number}")
            else:
                shutil.rmtree(folder / f"seed{number}")
    return outcomes


def summary(outcomes: list[Outcome], wall_s: float) -> str:
    """The last line."""
    counts = sum((outcome.findings.counts for outcome in outcomes), Counter())
    struck = Counter(fault.name.lower() for outcome in outcomes for fault in outcome.struck)
    failed = sum(bool(outcome.findings.problems) for outcome in outcomes)
    totals = ", ".join(f"{counts[kind]} {name}" for kind, name in NAMES.items())
    faults = ", ".join(f"{name} {count}" for name, count in sorted(struck.items()))
    return f"chaos: {len(outcomes)} seeds, {failed} failed, {totals}; {wall_s:.0f} s; struck: {faults or 'none'}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("seeds", nargs="+", help="numbers and ranges: 1 2 3, 1-200")
    parser.add_argument("--list", action="store_true", help="only say what would happen")
    arguments = parser.parse_args()
    numbers = parse_seeds(arguments.seeds)
    if arguments.list:
        say("\n".join(map(str, map(scenario, numbers))))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    outcomes = play(numbers, folder)
    failed = any(outcome.findings.problems for outcome in outcomes)
    if not failed:
        shutil.rmtree(folder)
    say(summary(outcomes, time.monotonic() - started))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
