"""The benchmark of a training step runs at a tiny size and writes what figures need."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_tiny_run_writes_every_row(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    small = ["--sizes", "tiny", "--seconds", "1", "--utterances", "2", "--repetitions", "1"]
    command = [sys.executable, "-m", "benchmarks.pretrain", *small, "--json", str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["engine"]: row for row in json.loads(result.read_text(encoding="utf-8"))["rows"]}
    ours = ["ours, waveforms", "ours, filterbanks, transformers' attention", "ours, filterbanks"]
    assert list(rows) == ["transformers, waveforms", *ours]
    assert rows["transformers, waveforms"]["ratio"] == 1.0
    assert all(
        row["audio_s_per_cpu_s"] > 0 and row["parameters"] > 100_000 and row["peak_memory_mib"] >= 0
        for row in rows.values()
    )
    assert "ours, filterbanks" in done.stdout
