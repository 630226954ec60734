"""The benchmark of artifacts runs at a tiny size and writes what figures need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.export.rows import CLAIMS

ROOT = Path(__file__).parents[2]
ENGINES = [
    "transformers-eager-batch8",
    "transformers-eager-batch1",
    "transformers-sdpa-batch1",
    "transformers-sdpa-sorted",
    "ours-fp32",
    "ours-int8",
    "onnxruntime-int8",
    "openvino-int8",
]
KEYS = {
    "workload", "model", "engine", "audio_s_per_cpu_s", "ratio_to_baseline", "ratio_to_best_transformers",
    "max_abs_error", "min_cosine_pooled", "mean_cosine_pooled", "min_cosine_frame", "mean_cosine_frame",
    "peak_memory_mib", "size_bytes", "size_ratio", "load_s", "recall_at_10", "alone_error", "ratio_to_other_int8",
}  # fmt: skip


@pytest.mark.timeout(300)
def test_a_tiny_run_writes_every_row(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.export", "--quick", "--models", "base", "--layers", "1"]
    done = subprocess.run(
        [*command, "--seconds", "4", "--json", str(result)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(result.read_text(encoding="utf-8"))
    rows = {row["engine"]: row for row in written["rows"]}
    assert [engine for engine in rows if engine in ENGINES] == ENGINES
    assert all(row.keys() >= KEYS for row in rows.values())
    ours, fp32 = rows["ours-int8"], rows["ours-fp32"]
    assert ours["size_ratio"] < 0.3
    assert fp32["size_ratio"] == fp32["recall_at_10"] == 1.0
    assert 0.99 < ours["min_cosine_frame"] <= ours["mean_cosine_frame"] < 1.0
    assert ours["alone_error"] <= 1e-6
    assert (ours["load_s"] > 0, rows["transformers-eager-batch8"]["load_s"]) == (True, None)
    assert len(written["claims"]) == len(CLAIMS)
    picture = tmp_path / "picture.svg"
    command = [sys.executable, "-m", "benchmarks.export.chart", str(result), str(picture)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert f">{ours['audio_s_per_cpu_s']:.2f}</text>" in picture.read_text(encoding="utf-8")
    measured = {claim["claim"]: claim["measured"] for claim in written["claims"]}
    assert measured["base, log-normal: ours-int8 size_ratio at most 0.27"] == ours["size_ratio"]
