"""Tables of one sink: filled as runs fill them, and read back."""

import hashlib
from itertools import count
from pathlib import Path

import pyarrow as pa

from tests.unit.embed.rows import inventory
from tests.unit.embed.sink import DEAD, LAYOUTS_WITH_FRAMES, NAMES, Died, Driver, open_tables
from tests.unit.embed.test_commit import Run, rows
from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.forgotten import Forgotten
from w2vb_ray.embed.holder import Holder
from w2vb_ray.embed.tables import UTTERANCES, DataFile, Table, add_action, new_file
from w2vb_ray.source import Batch

__all__ = ["Sink", "killed", "rows"]


class Sink:
    """A folder of tables."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._runs = count(1)

    def embed(self, *source, batch=9, **options):
        """A whole run over this source, without what was forgotten; returns its plan."""
        kept, _ = Forgotten.read(str(self.folder), {}).without(Batch.of(inventory(source)))
        ids = set(kept.table["utterance_id"].to_pylist())
        run = Run(self.folder, f"run{next(self._runs)}", [row for row in source if row["id"] in ids], **options)
        return run.finish(batch).plan

    def widen(self, *fields):
        """Make tables whose utterances also have these columns."""
        driver = Driver(self.folder, f"run{next(self._runs)}")
        assert driver.hold(LAYOUTS_WITH_FRAMES)
        utterances = driver.tables[UTTERANCES]
        driver.claim.extend(utterances, pa.schema([*utterances.columns, *fields]))
        driver.claim.release()

    def add(self, name, *rows, language="eng"):
        """One more file of a table; what the rows leave out is null."""
        run_id = f"run{next(self._runs)}"
        driver = Driver(self.folder, run_id)
        assert driver.hold(LAYOUTS_WITH_FRAMES)
        table = driver.tables[name]
        columns = pa.schema([field for field in table.columns if field.name != "language"])
        path = new_file(language, run_id)
        num_bytes = table.write(path, [pa.Table.from_pylist(list(rows), schema=columns)], columns)
        driver.claim.commit_batch({name: [add_action(DataFile(path, language, len(rows), num_bytes))]})
        driver.claim.release()

    def tables(self):
        return open_tables(self.folder)

    def table(self, name):
        return Table(name, str(self.folder), {})

    def contents(self):
        """Table -> every live row with all its values, by id."""
        found = {}
        for name in NAMES:
            table = self.table(name)
            parts = [
                table.read(file.path).append_column("language", pa.array([file.language] * file.num_rows, pa.string()))
                for file in table.files()
            ]
            rows = [row for part in parts for row in part.to_pylist()]
            found[name] = sorted(rows, key=lambda row: row["utterance_id"])
        return found

    def ids(self):
        return {name: [row["utterance_id"] for row in rows] for name, rows in self.contents().items()}

    def live(self, name):
        return {file.path for file in self.table(name).files()}

    def on_disk(self, name):
        """Data files in a table's folder, whoever knows of them."""
        folder = self.folder / name
        return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts}

    def state(self):
        """Every file under the sink and what is in it."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def killed(monkeypatch, owner, name, at, action):
    """Do something in a process that is killed when it calls a method for the `at`-th time.

    Returns:
        Whether it came to that.
    """
    num_calls = 0
    real = getattr(owner, name)

    def die(*arguments, **options):
        nonlocal num_calls
        num_calls += 1
        if num_calls == at:
            raise Died
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        patch.setattr(Holder, "this_process", lambda: DEAD)
        patch.setattr(Claim, "release_quietly", lambda _: None)
        try:
            action()
        except Died:
            return True
    return False
