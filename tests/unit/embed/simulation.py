"""The commit code alone, on real Delta tables, under a scheduler that decides by seed who goes on and what fails.

Several drivers plan, claim, commit and release on the same tables. At every write of any of them, the store may refuse
it, lose its reply, or deliver it late; the driver may die before it, after it, or with it on its way; or it may stand
still while others go on. Time, processes and machines are the world's own, so leases end and pids die as it says.

`make simulate SEEDS=17` replays a seed.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from unittest import mock

from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from w2vb_ray.embed import claim as claim_module
from w2vb_ray.embed import holder as holder_module
from w2vb_ray.embed.tables import REJECTS, UTTERANCES, Table
from w2vb_ray.errors import TableHeld, W2vbError

from .simulated_run import LEASE_S, MACHINES, Row, Run, file_name
from .sink import NAMES, Died

NUM_DRIVERS = 3
NUM_STEPS = 16
NUM_IDS = 16
PATIENCE = 4  # runs without a fault until everything must be done


class World:
    """The tables, the machines around them, and what must be true of both.

    Args:
        folder: for the tables; on a memory disk a seed takes half the time.
        seed: decides everything.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.draw = random.Random(seed)
        self.clock = Clock()
        self.alive: dict[int, str] = {}  # pid -> start time, of this machine
        self.slots: list[Run | None] = [None] * NUM_DRIVERS
        self.runs: dict[str, Run] = {}
        self.source = {f"u{number:02d}": 1 for number in range(NUM_IDS)}  # id -> version of its recording
        self.frames = False
        self.rows: dict[str, Row] = {}  # what the batches that count have made of each id
        self.holder: Run | None = None
        self.num_batches = 0
        self.late: list[Callable[[], None]] = []  # writes that are still on their way
        self.depth = 0  # drivers that stand still inside a write
        self.calm = False
        self.seen: Counter[str] = Counter()  # what happened, to see that everything does

    def play(self) -> None:
        """Some steps with faults, then none: everything must get done, once."""
        with self._patched():
            for _ in range(NUM_STEPS):
                self.step()
            for slot, run in enumerate(self.slots):
                if run is not None:
                    self.ends(slot, run)
            self.calm = True
            while self.late:
                self.late.pop()()
            for _ in range(PATIENCE):
                if self._finish():
                    break
            self._check()

    def step(self) -> None:
        """One driver goes on to its next write boundary, or the world changes."""
        self.clock.now += self.draw.expovariate(1 / 15)
        event = self.draw.random()
        if event < 0.16:
            for id_ in self.draw.sample(sorted(self.source), 4):
                self.source[id_] += 1
        elif event < 0.19:
            self.clock.now += 2 * LEASE_S
        elif event < 0.22:
            self._foreign_commit()
        elif event < 0.23:
            self.frames = True
        elif event < 0.27 and self.late:
            self.late.pop(self.draw.randrange(len(self.late)))()
        else:
            slots = [slot for slot in range(NUM_DRIVERS) if self.slots[slot] is None or not self.slots[slot].writing]
            if slots:
                self.go(self.draw.choice(slots))

    def go(self, slot: int) -> None:
        """The next step of the driver in a slot; without one, a driver starts."""
        run = self.slots[slot]
        if run is None:
            run = self.slots[slot] = Run(self, f"run{len(self.runs) + 1}")
            self.runs[run.run_id] = run
        try:
            run.next()
        except TableHeld:
            run.lets_go()
            self.ends(slot, run)
        except Died:
            self.seen["died"] += 1
            self.ends(slot, run)
        except (W2vbError, DeltaError, OSError) as err:
            self.seen[f"failed with {type(err).__name__}"] += 1
            run.lets_go()
            self.ends(slot, run)
        else:
            if run.is_done:
                self.ends(slot, run)

    def ends(self, slot: int, run: "Run") -> None:
        """The process is gone."""
        self.alive.pop(run.pid, None)
        self.slots[slot] = None

    def landed(self, commit: CommitProperties) -> None:
        """A commit of `utterances` is in the log: this alone decides who holds, and which batch counts."""
        run, kind = self.runs[commit.custom_metadata["w2vb.run_id"]], commit.custom_metadata["w2vb.kind"]
        if kind == "claim":
            assert self.holder is None or self.holder is run or not self._holds(self.holder), "taken from a living run"
            self.holder = run
            run.released = False
        assert self.holder is run, f"{run.run_id} wrote after {self.holder and self.holder.run_id} had taken over"
        run.expires = commit.custom_metadata["w2vb.expires_ms"] / 1000
        run.released = kind == "release"
        if kind == "batch":
            self.rows |= run.batch
            self.num_batches += 1
            run.num_landed += 1

    def _holds(self, run: "Run") -> bool:
        if run.released:
            return False
        return run.pid in self.alive if run.machine == MACHINES[0] else self.clock.now < run.expires

    def _foreign_commit(self) -> None:
        """Another tool commits something that changes no row."""
        for name in (UTTERANCES, REJECTS):
            table = Table(name, str(self.folder), {})
            if table.exists:
                table.append([], CommitProperties(custom_metadata={"tool": "another"}))

    def _finish(self) -> bool:
        """A run that nothing strikes; whether it came to its end."""
        self.clock.now += 2 * LEASE_S
        self.go(0)
        while self.slots[0] is not None:
            self.go(0)
        return all(id_ in self.rows and self.rows[id_].version == version for id_, version in self.source.items())

    def _check(self) -> None:
        wanted = {name: Counter(row.file for row in self.rows.values() if name in row.tables) for name in NAMES}
        assert self.rows.keys() == self.source.keys(), f"lost: {self.source.keys() - self.rows.keys()}"
        for id_, version in self.source.items():
            assert self.rows[id_].version == version, f"{id_} was not embedded again"
        for name in NAMES:
            table = Table(name, str(self.folder), {})
            found = Counter(file_name(file.path) for file in table.files())
            assert found == wanted[name], f"{name}: {found - wanted[name]} too much, {wanted[name] - found} missing"
            if table.delta is None:
                continue
            commits = [commit for commit in reversed(table.delta.history()) if "w2vb.run_id" in commit]
            begins = [next(block) for _, block in groupby(commits, lambda commit: commit["w2vb.run_id"])]
            numbers = [commit["w2vb.number"] for commit in commits]
            stray = [commit["w2vb.run_id"] for commit in begins if commit["w2vb.kind"] != "claim"]
            assert not stray, f"{name}: {stray} wrote after being overtaken"
            assert all(earlier < later for earlier, later in pairwise(numbers)), (
                f"{name}: numbers do not grow: {numbers}"
            )

    @contextmanager
    def _patched(self) -> Iterator[None]:
        def started(pid: int) -> str:
            return self.alive.get(pid, "")

        with (
            mock.patch.object(claim_module, "time", self.clock),
            mock.patch.object(holder_module, "time", self.clock),
            mock.patch.object(holder_module, "started_at", started),
            mock.patch.object(holder_module, "_namespace", return_value=MACHINES[0]),
        ):
            yield


@dataclass(slots=True)
class Clock:
    """Stands in for the `time` module."""

    now: float = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def simulate(folder: Path, seed: int) -> Counter[str]:
    """Play one seed in a folder of its own, which is gone afterwards unless something was wrong."""
    world = World(folder / f"seed{seed}", seed)
    world.folder.mkdir(parents=True)
    try:
        world.play()
    except AssertionError as err:
        raise AssertionError(f"seed {seed}: {err}") from err
    shutil.rmtree(world.folder)
    return world.seen
