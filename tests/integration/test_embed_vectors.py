"""The real job with several poolings of a mixture of layers, vectors of length 1, and a head that is not there."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from w2vb_ray import schema
from w2vb_ray.errors import ExitCode

from . import jobs

MIXTURE = ("encoder.layers=[1, -1]", "encoder.layer_weights=[0.25, 0.75]", "sink.frames=true")
TWO_OF_LENGTH_1 = ("pooling.method=[mean, max]", "pooling.normalise=true")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Three recordings."""
    (tmp_path / "corpus").mkdir()
    for file in sorted((jobs.SAMPLE / "eng").glob("*.ogg"))[:3]:
        shutil.copy(file, tmp_path / "corpus")
    return jobs.write_conf(tmp_path / "conf.yaml", tmp_path / "corpus", tmp_path / "sink", "encoder: {device: cpu}\n")


def test_the_tables_hold_what_was_asked_for_and_take_nothing_else(conf: Path) -> None:
    sink, vectors = conf.parent / "sink", schema.Vectors([1, 4], ["mean", "max"], mixed=True)
    done = jobs.run(conf, *MIXTURE, *TWO_OF_LENGTH_1)
    assert done.returncode == ExitCode.DONE, done.stderr
    utterances, frames = jobs.table(sink, "utterances"), jobs.table(sink, "frames")
    assert utterances.column_names == schema.utterances_schema(vectors, pa.schema([])).names
    assert frames.column_names == schema.frames_schema(vectors).names
    assert utterances.num_rows == frames.num_rows == 3
    matrices = jobs.vectors(frames, "frames")
    for name, pooled in (("embedding_mean", lambda x: x.mean(0)), ("embedding_max", lambda x: x.max(0))):
        for utterance_id, vector in jobs.vectors(utterances, name).items():
            expected = pooled(matrices[utterance_id])
            assert np.linalg.norm(vector - expected / np.linalg.norm(expected)) < 1e-3  # both are stored rounded
            assert np.linalg.norm(vector) == pytest.approx(1, abs=2**-11)
    refused = jobs.run(conf, *MIXTURE, "pooling.method=[mean, max]")
    assert refused.returncode == ExitCode.USER_ERROR
    assert "pooling.normalise (table: true, this run: false)" in refused.stderr


def test_a_head_that_is_not_there_exits_2_before_anything_else(conf: Path) -> None:
    done = jobs.run(conf, "pooling.method=attention")
    assert done.returncode == ExitCode.USER_ERROR
    assert "attention_pooling.json and attention_pooling.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (conf.parent / "sink").exists()
