"""Running the real job as a user does, and reading what it left."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from w2vb_ray.embed.tables import Table

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/data/speech"


def command(conf: Path | str, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "jobs.embed", str(conf), *overrides]


def run(conf: Path | str, *overrides: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(conf, *overrides),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def start(conf: Path | str, log: Path, *overrides: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            command(conf, *overrides), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 150.0) -> None:
    """Poll until the condition holds; the process must still be running then."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the job ended before the moment that the test waits for"
        assert time.monotonic() < deadline, "the moment that the test waits for never came"
        time.sleep(0.05)


def num_batches(sink: Path) -> int:
    """Batches of rows that the utterances log holds."""
    logs = (sink / "utterances/_delta_log").glob("*.json")
    return sum('"w2vb.kind":"batch"' in log.read_text() for log in logs)


def encoder_processes(driver: int) -> list[psutil.Process]:
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if "EncodeUnits" in " ".join(child.cmdline())]


def kill(process: subprocess.Popen[bytes], sent: signal.Signals = signal.SIGKILL) -> int:
    process.send_signal(sent)
    return process.wait(timeout=120)


def table(sink: Path | str, name: str, version: int | None = None, **options: str) -> pa.Table:
    """All rows of a table, at a version of its log; `options` are fsspec's."""
    found = Table(name, str(sink), options)
    if version is not None:
        found.delta.load_as_version(version)
    columns = found.columns
    parts = []
    for file in found.files():
        rows = found.read(file.path)
        rows = rows.append_column("language", pa.array([file.language] * rows.num_rows, pa.string()))
        parts.append(rows.replace_schema_metadata(None))
    whole = pa.concat_tables([columns.empty_table(), *parts], promote_options="permissive")
    return whole.select(columns.names)


def ids(rows: pa.Table) -> list[str]:
    return sorted(rows["utterance_id"].to_pylist())


def vectors(rows: pa.Table, column: str = "embedding") -> dict[str, np.ndarray]:
    return {
        key: np.array(value, np.float32)
        for key, value in zip(rows["utterance_id"].to_pylist(), rows[column].to_pylist(), strict=True)
    }


def report(sink: Path) -> dict:
    newest = max((sink / "_runs").iterdir())
    return json.loads((newest / "report.json").read_text())


def sample_rows() -> list[dict[str, str]]:
    with (SAMPLE / "manifest.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        columns = list(rows[0])
        file.write("\t".join(columns) + "\n")
        file.writelines("\t".join(str(row[column]) for column in columns) + "\n" for row in rows)
    return path


def write_conf(path: Path, source: Path | str, sink: Path | str, more: str = "") -> Path:
    path.write_text(f"source:\n  uri: {source}\nsink:\n  uri: {sink}\n{more}", encoding="utf-8")
    return path
