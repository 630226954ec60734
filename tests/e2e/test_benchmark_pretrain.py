"""The benchmark of a training step runs at a tiny size and writes what figures need."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_tiny_run_writes_every_row(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    small = ["--sizes", "tiny", "--seconds", "1", "--utterances", "2", "--repetitions", "1"]
    job = ["--corpus", "tests/data/speech/manifest.tsv", "--updates", "6"]
    command = [sys.executable, "-m", "benchmarks.pretrain", *small, *job, "--json", str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(result.read_text(encoding="utf-8"))
    rows = {row["engine"]: row for row in written["rows"]}
    ours = ["ours, waveforms", "ours, filterbanks, transformers' attention", "ours, filterbanks"]
    assert list(rows) == ["transformers, waveforms", *ours]
    assert rows["transformers, waveforms"]["ratio"] == 1.0
    assert all(
        row["audio_s_per_cpu_s"] > 0 and row["parameters"] > 100_000 and row["peak_memory_mib"] >= 0
        for row in rows.values()
    )
    assert "ours, filterbanks" in done.stdout
    assert (written["job"]["updates"], written["job"]["num_lines"]) == (1, 5)
    assert written["job"]["audio_s_per_s"] > 0
    assert 0 <= written["job"]["wait_share"] < 1
    assert "waiting for audio" in done.stdout
