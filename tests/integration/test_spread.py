"""Tables read in Ray tasks hold what they hold when the driver reads them."""

import numpy as np
import pyarrow as pa
import pytest
import ray
from deltalake import CommitProperties

from tests.unit.embed.rows import encoded, packed
from tests.unit.embed.sink import LAYOUTS, VECTORS
from w2vb_ray.embed import spread
from w2vb_ray.embed.live import Known
from w2vb_ray.embed.tables import UTTERANCES, DataFile, Table, add_action
from w2vb_ray.embed.write import WriteTask, write_units
from w2vb_ray.source.keys import Keys


@pytest.fixture
def table(tmp_path):
    """Seven files of three utterances."""
    made = Table(UTTERANCES, str(tmp_path), {})
    made.create(LAYOUTS[UTTERANCES], CommitProperties())
    task = WriteTask(str(tmp_path), {}, VECTORS, "run-1", {})
    for number in range(7):
        rows = encoded([{"id": f"u{number}-{i}", "version": f"v{i}"} for i in range(3)])
        ((file,),) = [row["files"] for row in write_units(packed(rows), task).to_pylist()]
        added = add_action(DataFile(file["path"], file["language"], file["num_rows"], file["num_bytes"]))
        made.append([added], CommitProperties())
        made.reload()
    return made


def test_tasks_and_threads_find_the_same(table, monkeypatch):
    monkeypatch.setattr(spread, "_TASK_ROWS", 6)
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 1024**2)
    try:
        far = Known.read(table, ["source_version"], spread.in_tasks)
    finally:
        ray.shutdown()
    near = Known.read(table, ["source_version"])
    for name in ("versions", "retried", "files"):
        assert np.array_equal(getattr(far, name), getattr(near, name))
    assert list(far.paths) == list(near.paths)
    assert np.array_equal(far.keys.high, near.keys.high)
    assert np.array_equal(far.keys.low, near.keys.low)
    assert far.find(Keys.of(pa.array(["u3-1", "u9-1"]))).is_there.tolist() == [True, False]
