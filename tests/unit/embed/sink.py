"""Real Delta tables in a folder, and drivers that fail on command."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from w2vb_ray import schema
from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.holder import Holder
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, Layout, Table, add_action, partition_path

NAMES = (UTTERANCES, FRAMES, REJECTS)
VECTORS = schema.Vectors([4])
LAYOUTS = {
    UTTERANCES: Layout(schema.utterances_schema(VECTORS, pa.schema([("text", pa.string())])), {"w2vb.pooling": "mean"}),
    REJECTS: Layout(schema.REJECTS, {"w2vb.pooling": "mean"}),
}
LAYOUTS_WITH_FRAMES = {**LAYOUTS, FRAMES: Layout(schema.frames_schema(VECTORS), {})}
WIDER = pa.schema([*LAYOUTS[UTTERANCES].columns, pa.field("speaker", pa.string())])

HERE = Holder.this_process()
DEAD = replace(HERE, pid=2**22 + 1)  # beyond the kernel's largest
REUSED = replace(HERE, started="1")  # its number belongs to another process now
ELSEWHERE = Holder(host="elsewhere", boot="another boot", pid=1, started="1")


class Died(BaseException):
    """The process ends here."""


class ScriptedTable(Table):
    """A table whose writes fail as scripted: `lose` the reply, `refuse`, `die`, or call something before."""

    def __init__(self, *arguments):
        self.script = []
        self.num_appends = 0
        super().__init__(*arguments)

    def append(self, actions, commit):
        self.num_appends += 1
        self._write(lambda: super(ScriptedTable, self).append(actions, commit))

    def restore(self, version, commit):
        self._write(lambda: super(ScriptedTable, self).restore(version, commit))

    def _write(self, write):
        step = self.script.pop(0) if self.script else None
        if callable(step):
            step()
        if step == "refuse":
            raise OSError("the store is away")
        if step == "die":
            raise Died
        write()
        if step == "lose":
            raise OSError("connection reset")


def open_tables(folder):
    return {name: ScriptedTable(name, str(folder), {}) for name in NAMES}


class Driver:
    """A run's side of the tables: its own snapshots and its claim."""

    def __init__(self, folder, run_id, holder=HERE, lease_s=120.0):
        self.tables = open_tables(folder)
        self.claim = Claim(self.tables, run_id, lease_s)
        self.claim._holder = holder.to_json()
        self.run_id = run_id

    def hold(self, layouts=LAYOUTS):
        """What a run does between plan and work."""
        if self.tables[UTTERANCES].exists and not self.claim.is_held and not self.claim.take():
            return False
        return self.claim.create_missing(layouts)

    def commit(self, utterances=(), rejects=(), frames=()):
        """One batch of made-up files, each named after what it holds."""
        rows = {UTTERANCES: utterances, REJECTS: rejects, FRAMES: frames}
        self.claim.commit_batch({name: [add_action(data_file(id_)) for id_ in ids] for name, ids in rows.items()})


def data_file(id_, language="eng"):
    return DataFile(f"{partition_path(language)}/{id_}.parquet", language, 1, 100)


def held_by(folder, name=UTTERANCES):
    """What is in a table now, by the names of the files; sorted, so twice is twice."""
    return sorted(
        file.path.rpartition("/")[2].removesuffix(".parquet") for file in Table(name, str(folder), {}).files()
    )


def log(folder, name=UTTERANCES):
    """(run, kind, number) of every commit, oldest first; read from the log itself."""
    commits = []
    for path in sorted((folder / name / "_delta_log").glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            info = json.loads(line).get("commitInfo")
            if info:
                commits.append((info.get("w2vb.run_id"), info.get("w2vb.kind"), info.get("w2vb.number")))
    return commits


def dies(run, *, at):
    """In the middle of a batch, at its commit to a table."""
    run.tables[at].script = ["die"]
    with pytest.raises(Died):
        run.commit(["a1"], ["a1r"], ["a1f"])
