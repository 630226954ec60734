"""`hf://`: datasets of the Hugging Face hub as sources, over its HTTP API."""

import shutil
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from w2vb_ray.config.sections import AudioSection, SourceSection
from w2vb_ray.embed.read import read_unit
from w2vb_ray.errors import SourceError
from w2vb_ray.source import build_inventory

from . import containers, hub, jobs

HERE = f"hf://datasets/{hub.NAME}"
ROWS = containers.clips(2)


@pytest.fixture
def served(tmp_path: Path) -> Generator[hub.Hub]:
    """A repository with the same clips as files and in the Parquet shards that `datasets` writes."""
    root = tmp_path / "repository"
    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text("a dataset card\n")
    for number in range(3):
        name = root / f"data/train-{number:05}-of-00003.parquet"
        name.write_bytes(containers.parquet(ROWS[number::3]))
    for row in ROWS:
        path = root / "audio" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(jobs.SAMPLE / row["path"], path)
    with hub.serve(root) as serving:
        yield serving


def source(uri: str, served: hub.Hub, **more: str) -> SourceSection:
    return SourceSection(uri=uri, storage={"endpoint": served.endpoint}, **more)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "parquet"),
        ("/data", "parquet"),
        ("/data/*.parquet", "parquet"),
        ("@main/data/train-00000-of-00003.parquet", "parquet"),
        ("/audio", "folder"),
        ("/audio/*/*", "folder"),
    ],
)
def test_what_a_repository_holds(path: str, expected: str, served: hub.Hub) -> None:
    section = source(HERE + path, served)
    inventory = build_inventory(section)
    assert inventory.format == expected
    decoded = read_unit(inventory.table, section, AudioSection())
    assert decoded["reason"].to_pylist() == [None] * len(decoded)
    assert len(decoded) == (2 if "00000" in path else len(ROWS))
    files = {hub.blob_id(file) for file in served.root.rglob("*") if file.is_file()}
    versions = set(inventory.table["source_version"].to_pylist())
    assert versions <= files  # a file's version is what git calls it


@pytest.mark.parametrize("uri", ["hf://datasets/org/none", f"{HERE}/none", f"{HERE}/none/*.parquet"])
def test_what_is_not_there(uri: str, served: hub.Hub) -> None:
    with pytest.raises(SourceError, match="does not exist or is empty"):
        build_inventory(source(uri, served))


def test_a_file_that_changes_after_it_was_planned(served: hub.Hub) -> None:
    section = source(f"{HERE}/audio", served)
    planned = build_inventory(section).table
    path = served.root / "audio" / ROWS[0]["path"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # of the same size
    decoded = read_unit(planned, section, AudioSection())
    reasons = dict(zip(decoded["audio_uri"].to_pylist(), decoded["reason"].to_pylist(), strict=True))
    assert {uri: reason for uri, reason in reasons.items() if reason} == {f"{HERE}/audio/{ROWS[0]['path']}": "changed"}


def test_the_job_embeds_a_dataset_of_the_hub(served: hub.Hub, tmp_path: Path) -> None:
    rest = f"  storage: {{endpoint: '{served.endpoint}'}}\nencoder: {{device: cpu}}\ncluster: {{num_encoders: 1}}\n"
    (tmp_path / "conf.yaml").write_text(f"source:\n  uri: {HERE}\n{rest}sink:\n  uri: {tmp_path / 'hub'}\n")
    done = jobs.run(tmp_path / "conf.yaml", env={"HF_HUB_OFFLINE": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ROWS)} embedded + 0 rejected + 0 unchanged of {len(ROWS)}" in done.stdout
    found = jobs.table(tmp_path / "hub", "utterances").to_pylist()
    assert {row["clip"] for row in found} == {row["path"] for row in ROWS}
    assert all(np.isfinite(row["embedding"]).all() for row in found)
    again = jobs.run(tmp_path / "conf.yaml", env={"HF_HUB_OFFLINE": "0"})
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True), again.stderr
