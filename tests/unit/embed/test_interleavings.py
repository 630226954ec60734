"""Two drivers on the same tables, in random order, with lost replies, refused commits and deaths at any point."""

import os
import random
from collections import Counter

import pytest

from w2vb_ray.embed import claim as module
from w2vb_ray.embed.tables import REJECTS, UTTERANCES
from w2vb_ray.errors import TableHeld, W2vbError

from .sink import DEAD, ELSEWHERE, HERE, Died, Driver, held_by

SEEDS = int(os.environ.get("W2VB_RAY_SEEDS", "60"))  # more of them after a change of the protocol
STEPS = 9
BATCH_ROWS = 3
IDS = [f"u{i:02d}" for i in range(60)]
FAULTS = [None] * 6 + ["lose", "refuse", "die", "switch"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


class World:
    """What happened so far, as the drivers were told."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.num_runs = 0
        self.slots = [None, None]
        self.committed = Counter()
        self.holder = None  # the run that took the tables last

    def step(self, slot, *, nested=False):
        run = self.slots[slot]
        if run is None:
            self.begin(slot)
        elif not run.held:
            self.hold(slot, run)
        elif self.random.random() < 0.8:
            self.batch(slot, run, nested)
        else:
            self.guarded(slot, run, run.driver.claim.release)
            self.ends(slot, run)

    def begin(self, slot):
        """Look at the tables and plan, as a run does before its work."""
        self.num_runs += 1
        alive = self.random.random() < 0.4
        holder = HERE if alive else self.random.choice([DEAD, ELSEWHERE])
        driver = Driver(self.folder, f"run{self.num_runs}", holder, lease_s=-1.0)
        try:
            driver.claim.check_free()
        except TableHeld:
            return
        run = Run(driver, alive)
        if driver.claim.has_unconfirmed():
            if not driver.claim.take():
                return
            self.took(run)
        done = {row for name in (UTTERANCES, REJECTS) for row in run.rows_of(name)}
        run.todo = [id_ for id_ in IDS if id_ not in done]
        self.slots[slot] = run

    def took(self, run):
        # Nobody takes the tables from a run that lives.
        assert self.holder is None or self.holder is run or not self.holder.alive
        run.held, self.holder = True, run

    def hold(self, slot, run):
        if run.driver.hold():
            self.took(run)
        else:
            self.slots[slot] = None

    def batch(self, slot, run, nested):
        rows, run.todo = run.todo[:BATCH_ROWS], run.todo[BATCH_ROWS:]
        refused = [id_ for id_ in rows if self.random.random() < 0.3]
        fine = [id_ for id_ in rows if id_ not in refused]
        for name in (REJECTS, UTTERANCES):
            fault = self.random.choice(FAULTS)
            if fault == "switch":
                fault = None if nested else lambda: self.step(1 - slot, nested=True)
            run.driver.tables[name].script = [fault]
        if self.guarded(slot, run, lambda: run.driver.commit(fine, refused)):
            self.committed.update(rows)

    def guarded(self, slot, run, action):
        """Whether the action came to its end; a run ends with the exception that it gets."""
        try:
            action()
        except TableHeld:
            # Only who was really overtaken may be told so.
            assert self.holder is not run
        except (Died, W2vbError):
            pass
        else:
            return True
        self.ends(slot, run)
        return False

    def ends(self, slot, run):
        """Its process is gone: the kernel knows it no more. A run that could, released its claim."""
        for table in run.driver.tables.values():
            table.script = []
        if run.alive:
            run.driver.claim.release_quietly()
        run.alive = False
        self.slots[slot] = None


class Run:
    """A driver between its plan and its end."""

    def __init__(self, driver, alive):
        self.driver = driver
        self.alive = alive
        self.held = False
        self.todo = []

    def rows_of(self, name):
        return [file.path.rpartition("/")[2].removesuffix(".parquet") for file in self.driver.tables[name].files()]


@pytest.mark.parametrize("block", range(4))
def test_no_id_twice_and_none_lost(tmp_path, block):
    for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
        world = World(tmp_path / str(seed), seed)
        for _ in range(STEPS):
            world.step(world.random.randrange(2))
        last = Driver(world.folder, "last", HERE)  # whatever is half done is undone
        for slot, run in enumerate(world.slots):
            if run is not None:
                world.ends(slot, run)
        assert last.hold() or last.tables[UTTERANCES].reload() or last.hold()
        found = Counter(held_by(world.folder) + held_by(world.folder, REJECTS))
        assert max(found.values(), default=0) <= 1, f"seed {seed}: twice"
        assert found == world.committed, f"seed {seed}: lost, or there although its run was told otherwise"
