"""One driver of the simulation, step by step, and the tables that fail it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.holder import Holder
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, Table, add_action, remove_action
from w2vb_ray.errors import TableHeld, W2vbError

from .sink import LAYOUTS, LAYOUTS_WITH_FRAMES, NAMES, WIDER, Died, data_file

if TYPE_CHECKING:
    from .simulation import World

BATCH_ROWS = 3
LEASE_S = 120.0
PLAN_ATTEMPTS = 3
FAULT_RATE = 0.22
FAULTS = ("refuse", "lose", "die before", "die after", "late", "in flight", "switch")
MACHINES = ("here", "there")


@dataclass(frozen=True, slots=True)
class Row:
    """What a batch makes of an id: its recording's version, and the tables that hold a file of it."""

    file: str
    version: int
    tables: frozenset[str]


class Run:
    """A driver from its plan to its end, in the steps of `embed.run`."""

    def __init__(self, world: "World", run_id: str) -> None:
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
                id_, _, version = file_name(file.path).split("~")
                before = self._found.get(id_)
                assert before is None or name == FRAMES, f"{id_} is in two tables, or twice in one"
                tables = (before.tables if before else frozenset()) | {name}
                self._found[id_] = Row(file_name(file.path), int(version), tables)
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

    def __init__(self, world: "World", name: str) -> None:
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


def file_name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")
