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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from unittest import mock

import pyarrow as pa
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from w2vb_ray.embed import claim as claim_module
from w2vb_ray.embed import holder as holder_module
from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.holder import Holder
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, Table, add_action, remove_action
from w2vb_ray.errors import TableHeld, W2vbError

from .sink import LAYOUTS, LAYOUTS_WITH_FRAMES, NAMES, WIDER, Died, data_file

NUM_DRIVERS = 3
NUM_STEPS = 16
NUM_IDS = 16
BATCH_ROWS = 3
LEASE_S = 120.0
PLAN_ATTEMPTS = 3
FAULT_RATE = 0.22
FAULTS = ("refuse", "lose", "die before", "die after", "late", "in flight", "switch")
MACHINES = ("here", "there")
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
            found = Counter(_file_name(file.path) for file in table.files())
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


@dataclass(frozen=True, slots=True)
class Row:
    """What a batch makes of an id: its recording's version, and the tables that hold a file of it."""

    file: str
    version: int
    tables: frozenset[str]


class Run:
    """A driver from its plan to its end, in the steps of `embed.run`."""

    def __init__(self, world: World, run_id: str) -> None:
        self._world = world
        self.run_id = run_id
        self.machine = world.draw.choice(MACHINES)
        self.pid = 1000 + len(world.runs)
        if self.machine == MACHINES[0]:
            world.alive[self.pid] = "1"
        self.frames = world.frames
        self.wide = world.draw.random() < 0.3
        self._tables = {name: FailingTable(world, name) for name in NAMES}
        self._num_batches = world.num_batches  # that its snapshots hold
        self._claim = Claim(self._tables, run_id, LEASE_S)
        self._claim._holder = Holder(self.machine, self.machine, self.pid, "1").to_json()
        self._attempts = 0
        self._todo: list[str] | None = None
        self._held = False
        self._versions: dict[str, int] = {}
        self._found: dict[str, Row] = {}
        self.batch: dict[str, Row] = {}
        self.num_landed = 0
        self.released = True
        self.expires = 0.0
        self.writing = False
        self.is_done = False

    def next(self) -> None:
        """Plan, then hold the tables, then batches, then release."""
        if self._todo is None:
            self._plan()
        elif not self._held:
            self._hold()
        elif self._todo:
            self._batch()
        else:
            self._claim.release()
            self.is_done = True

    def lets_go(self) -> None:
        """What a failing run does on its way out."""
        if self._held:
            with suppress(Died):
                self._claim.release_quietly()

    def _plan(self) -> None:
        if self._attempts:
            for table in self._tables.values():
                table.reload()
            self._num_batches = self._world.num_batches
        self._attempts += 1
        if self._attempts > PLAN_ATTEMPTS:
            raise TableHeld("other runs keep taking these tables")
        self._claim.check_free()
        if self._claim.has_unconfirmed() and not self._claim.take():
            return
        self._versions = dict(self._world.source)
        self._found = {}
        for name in NAMES:
            for file in self._tables[name].files():
                id_, _, version = _file_name(file.path).split("~")
                before = self._found.get(id_)
                assert before is None or name == FRAMES, f"{id_} is in two tables, or twice in one"
                tables = (before.tables if before else frozenset()) | {name}
                self._found[id_] = Row(_file_name(file.path), int(version), tables)
        if self._num_batches == self._world.num_batches:
            assert self._found == self._world.rows, "planned on rows that no batch has made, or without some"
        self._todo = [id_ for id_, version in self._versions.items() if not self._is_done(id_, version)]
        if not self._todo:
            self._claim.release()
            self.is_done = True

    def _is_done(self, id_: str, version: int) -> bool:
        row = self._found.get(id_)
        if row is None or row.version != version:
            return False
        return not self.frames or FRAMES in row.tables or REJECTS in row.tables

    def _hold(self) -> None:
        layouts = LAYOUTS_WITH_FRAMES if self.frames else LAYOUTS
        fresh = self._tables[UTTERANCES].exists
        if (fresh and not self._claim.is_held and not self._claim.take()) or not self._claim.create_missing(layouts):
            self._todo = None
            return
        self._held = True
        self._claim.extend(self._tables[UTTERANCES], WIDER if self.wide else layouts[UTTERANCES].columns)

    def _batch(self) -> None:
        rows, self._todo = self._todo[:BATCH_ROWS], self._todo[BATCH_ROWS:]
        actions = {name: [] for name in NAMES}
        self.batch = {}
        for id_ in rows:
            before = self._found.get(id_)
            refused = self._world.draw.random() < 0.3
            tables = [REJECTS] if refused else [UTTERANCES, FRAMES] if self.frames else [UTTERANCES]
            row = Row(f"{id_}~{self.run_id}~{self._versions[id_]}", self._versions[id_], frozenset(tables))
            for name in sorted(before.tables) if before else ():
                actions[name].append(remove_action(data_file(before.file)))
            for name in tables:
                actions[name].append(add_action(self._write_file(name, row.file)))
            self.batch[id_] = row
        landed = self.num_landed
        try:
            self._claim.renew_if_due()
            self._claim.commit_batch(actions)
        except TableHeld:
            assert self._world.holder is not self, "told that it was overtaken, but was not"
            assert self.num_landed == landed, "told that it was overtaken, but its batch is there"
            raise
        except (W2vbError, DeltaError, OSError):
            assert self.num_landed == landed, "told that it failed, but its batch is there"
            raise
        assert self.num_landed == landed + 1, "told that the batch is there, but it is not, or twice"

    def _write_file(self, name: str, file_name: str) -> DataFile:
        """An empty file: undoing a batch looks whether the files that come back are still there."""
        file = data_file(file_name)
        place = self._world.folder / name / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        return file


class FailingTable(Table):
    """A table whose writes meet what the world has drawn for them."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        super().__init__(name, str(world.folder), {})

    def create(self, layout: object, commit: CommitProperties) -> None:
        self._write(lambda: super(FailingTable, self).create(layout, commit), commit)

    def add_columns(self, fields: list[pa.Field], commit: CommitProperties) -> None:
        self._write(lambda: super(FailingTable, self).add_columns(fields, commit), commit)

    def append(self, actions: list[object], commit: CommitProperties) -> None:
        self._write(lambda: super(FailingTable, self).append(actions, commit), commit)

    def restore(self, version: int, commit: CommitProperties) -> None:
        self._write(lambda: super(FailingTable, self).restore(version, commit), commit)

    def _write(self, write: Callable[[], None], commit: CommitProperties) -> None:
        fault = self._draw()
        match fault:
            case "refuse":
                raise OSError("the store is away")
            case "die before":
                raise Died
            case "switch":
                self._others()
        before = self._log()
        write()
        entry = self._log() - before
        if fault in ("late", "in flight") and len(entry) == 1:
            self._deliver_late(entry.pop(), commit, dies=fault == "late")
        else:
            self._landed(commit)
        if fault == "die after":
            raise Died
        if fault == "lose":
            raise OSError("connection reset")

    def _draw(self) -> str | None:
        world = self._world
        if world.calm or world.draw.random() > FAULT_RATE:
            return None
        fault = world.draw.choice(FAULTS)
        if world.depth and fault in ("switch", "in flight"):
            return None
        world.seen[fault] += 1
        return fault

    def _others(self) -> None:
        """This driver stands still; the others go on for a while."""
        world = self._world
        writer = next(run for run in world.slots if run is not None and self in run._tables.values())
        writer.writing = True
        world.depth += 1
        for _ in range(world.draw.randint(1, 12)):
            world.step()
        world.depth -= 1
        writer.writing = False

    def _deliver_late(self, entry: Path, commit: CommitProperties, *, dies: bool) -> None:
        """Take the entry out of the log again; it comes back later, unless its place is taken by then."""
        kept = self._world.folder / f"{self.name}-{entry.name}-{self._world.draw.random()}"
        entry.rename(kept)
        arrived = []

        def arrive() -> None:
            if entry.exists() or (not entry.parent.exists()):
                return
            kept.rename(entry)
            arrived.append(entry)
            self._landed(commit)

        if dies:
            self._world.late.append(arrive)
            raise Died
        self._others()
        arrive()
        if not arrived:
            raise OSError("412 the log entry exists")

    def _landed(self, commit: CommitProperties) -> None:
        self._world.seen[f"{self.name} {commit.custom_metadata['w2vb.kind']}"] += 1
        if self.name == UTTERANCES:
            self._world.landed(commit)

    def _log(self) -> set[Path]:
        return set((self._world.folder / self.name / "_delta_log").glob("*.json"))


def _file_name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


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
