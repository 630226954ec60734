"""The real job over tars and tables with audio inside: the vectors are those of the same clips as files."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from w2vb_ray.errors import ExitCode

from . import containers, jobs

IN_ONE_RAY = """
import sys
from unittest import mock

import ray
from rich.console import Console

from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.embed.run import EmbedRun

shutdown = ray.shutdown
with mock.patch.object(ray, "shutdown"):  # Ray takes twenty seconds to start
    for conf in sys.argv[1:]:
        print("exit", int(EmbedRun(load_config(EmbedConfig, conf), Console(width=200)).run()))
shutdown()
"""


@pytest.fixture(scope="module")
def sinks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the tables of each source are."""
    root = tmp_path_factory.mktemp("containers")
    rows = containers.clips()
    languages = {
        "folder": "path:{language}/",
        "webdataset": "path:*/{language}/",
        "parquet": "column:language",
        "shar": "null",
    }
    for name in languages:
        (root / name).mkdir()
    for row in rows:
        (root / "folder" / row["language"]).mkdir(exist_ok=True)
        shutil.copy(jobs.SAMPLE / row["path"], root / "folder" / row["path"])
    for number in range(2):
        (root / f"webdataset/{number}.tar").write_bytes(containers.webdataset(rows[number::2]))
        (root / f"parquet/{number}.parquet").write_bytes(containers.parquet(rows[number::2]))
    cut = containers.webdataset(rows[:2])
    (root / "webdataset/cut.tar").write_bytes(cut[: len(cut) // 2])
    containers.shar(root / "shar", rows)
    confs: list[Path] = []
    for name, language in languages.items():
        more = "  max_reject_fraction: 0.5\nencoder: {device: cpu}\ncluster: {num_encoders: 1}\n"
        source = f"{root / name}\n  language: {language}"
        confs.append(jobs.write_conf(root / f"{name}.yaml", source, root / "sink" / name, more))
    again = [root / "webdataset.yaml", root / "parquet.yaml"]
    command = [sys.executable, "-c", IN_ONE_RAY, *map(str, [*confs, *again])]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"exit {int(ExitCode.DONE)}") == 6, done.stdout
    assert done.stdout.count("nothing to do") == 2, done.stdout
    for name in languages:
        assert f"({name})" in done.stdout, "auto recognised it"
    return {name: root / "sink" / name for name in languages}


@pytest.mark.parametrize("name", ["webdataset", "parquet", "shar"])
def test_vectors_are_those_of_the_files(name: str, sinks: dict[str, Path]) -> None:
    rows = jobs.table(sinks["folder"], "utterances").to_pylist()
    files = {"/".join(row["audio_uri"].split("/")[-2:]): row for row in rows}
    whole = [row for row in jobs.table(sinks[name], "utterances").to_pylist() if "/cut.tar#" not in row["audio_uri"]]
    assert {row["clip"] for row in whole} == set(files) == {row["path"] for row in containers.clips()}
    assert len(whole) == len(files)
    texts = {row["path"]: row["text"] for row in containers.clips()}
    for row in whole:
        expected = files[row["clip"]]
        vectors = [np.array(one["embedding"], np.float32) for one in (row, expected)]
        assert np.linalg.norm(vectors[0] - vectors[1]) < 1e-3 * np.linalg.norm(vectors[1])
        for column in ("language", "duration_s", "sampling_rate", "num_frames"):
            assert row[column] == expected[column]
        assert row["text"] == texts[row["clip"]]
        assert "#" in row["audio_uri"]


def test_a_cut_tar_costs_what_it_lost(sinks: dict[str, Path]) -> None:
    rejects = jobs.table(sinks["webdataset"], "rejects").to_pylist()
    assert [row["reason"] for row in rejects] == ["truncated"]
    assert "/cut.tar" in rejects[0]["audio_uri"]
    for name in ("parquet", "shar"):
        assert jobs.table(sinks[name], "rejects").num_rows == 0


def test_no_column_of_the_plan_is_left_in_the_tables(sinks: dict[str, Path]) -> None:
    own = {"webdataset": {"__key__", "text", "clip"}, "parquet": {"text", "clip", "audio_path"}}
    fixed = set(jobs.table(sinks["folder"], "utterances").column_names)
    for name, columns in own.items():
        table: pa.Table = jobs.table(sinks[name], "utterances")
        assert set(table.column_names) - fixed == columns
