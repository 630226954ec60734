"""`make simulate SEEDS=1-10000`: the commit code alone, on real tables under simulated faults, in all cores.

The last line is a summary; what a seed does is in `tests/unit/embed/simulation.py`.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.unit.embed.simulated_run import FAULTS
from tests.unit.embed.simulation import simulate

from .seeds import parse_seeds, say

MEMORY_DISK = Path("/dev/shm")
_CHUNK = 50


def play(folder: Path, seeds: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """What happened under some seeds, and what was wrong."""
    seen, problems = Counter[str](), []
    for seed in seeds:
        try:
            seen += simulate(folder, seed)
        except AssertionError as err:
            problems.append(str(err))
    return seen, problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.simulate", description=__doc__)
    parser.add_argument("seeds", nargs="+", help="numbers and ranges: 1 2 3, 1-10000")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    seeds = parse_seeds(arguments.seeds)
    started, done = time.monotonic(), 0
    seen, problems = Counter[str](), list[str]()
    place = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    workers = ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn"))
    with tempfile.TemporaryDirectory(prefix="simulate-", dir=place) as folder, workers:
        chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
        for number, (events, wrong) in enumerate(workers.map(play, [Path(folder)] * len(chunks), chunks)):
            seen += events
            problems += wrong
            done += len(chunks[number])
            for problem in wrong:
                say(problem)
            if number % 20 == 19:
                say(f"  {done} seeds in {time.monotonic() - started:.0f} s")
    faults = ", ".join(f"{fault} {seen[fault]}" for fault in FAULTS)
    batches = sum(count for event, count in seen.items() if event.endswith(" batch"))
    wall_s = time.monotonic() - started
    say(
        f"simulate: {len(seeds)} seeds, {len(problems)} failed; {batches} commits of rows; {faults}; "
        f"{wall_s:.0f} s, {len(seeds) / wall_s:.1f} seeds/s"
    )
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
