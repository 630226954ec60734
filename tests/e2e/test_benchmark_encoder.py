"""The benchmark of the encoder runs at a tiny size with no package but its own four, and writes what figures need."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = {"numpy", "safetensors", "torch", "transformers"}
THEIRS = {"fsspec", "pyyaml"}  # torch and huggingface_hub need these themselves
ENGINES = (
    "transformers-eager-batch8",
    "transformers-eager-batch1",
    "transformers-sdpa-sorted",
    "onnxruntime-fp32",
    "ours-fp32",
)
KEYS = {
    "workload", "model", "engine", "audio_s_per_cpu_s", "audio_s_per_wall_s", "ratio_to_baseline",
    "ratio_to_best_transformers", "max_abs_error", "min_cosine_pooled", "min_cosine_frame", "peak_memory_mib",
    "fraction_of_peak", "padding_waste",
}  # fmt: skip

# Hides modules as if they were not installed, in the benchmark and in the processes it starts.
HIDE = """
import importlib.machinery, os
hidden = set(os.environ["HIDDEN_MODULES"].split(","))
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = staticmethod(
    lambda name, path=None, target=None: None if name.partition(".")[0] in hidden else find(name, path, target)
)
"""


def hidden_modules() -> list[str]:
    """Top-level modules of what this project needs beyond the four packages, and of the optional engines."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=!~ ]", one)[0].lower() for one in listed} - NEEDED - THEIRS
    modules = {
        module
        for module, packages in packages_distributions().items()
        if any(package.lower().replace("_", "-") in names for package in packages)
    }
    assert {"psutil", "pydantic", "ray", "rich", "soundfile"} <= modules
    return sorted(modules | {"onnx", "onnxruntime", "onnxscript", "openvino"})


@pytest.mark.timeout(300)
def test_a_tiny_run_writes_every_row(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    hidden = {"PYTHONPATH": str(tmp_path), "HIDDEN_MODULES": ",".join(hidden_modules())}
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.encoder", "--device", "cpu", "--layers", "1", "--seconds", "4"]
    command += ["--models", "base", "--engines", ",".join(ENGINES), "--repetitions", "1", "--threads", "1", "--no-long"]
    done = subprocess.run(
        [*command, "--json", str(result)],
        cwd=ROOT,
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "NOT the full size" in done.stdout
    assert "onnxruntime-fp32: skipped: No module named 'onnx" in done.stdout

    found = json.loads(result.read_text(encoding="utf-8"))
    assert {"machine", "settings", "rows", "features", "long", "claims"} <= set(found)
    assert {"cpu", "cores", "ram_gib", "versions", "commit", "peak_gflop_per_s"} <= set(found["machine"])
    assert found["settings"]["full_size_model"] is False
    rows = {(row["workload"], row["engine"]): row for row in found["rows"]}
    measured = set(ENGINES) - {"onnxruntime-fp32"}
    assert set(rows) == {(workload, engine) for workload in ("log-normal", "short", "30s") for engine in measured}
    for (workload, engine), row in rows.items():
        assert set(row) >= KEYS
        assert all(row[key] > 0 for key in ("audio_s_per_cpu_s", "audio_s_per_wall_s", "peak_memory_mib"))
        assert 0 < row["fraction_of_peak"] < 1.1
        assert row["max_abs_error"] < 1e-4
        assert min(row["min_cosine_pooled"], row["min_cosine_frame"]) > 0.99999
        base = rows[workload, ENGINES[0]]["audio_s_per_cpu_s"]
        assert row["ratio_to_baseline"] == pytest.approx(row["audio_s_per_cpu_s"] / base)
        best = max(rows[workload, one]["audio_s_per_cpu_s"] for one in measured if one.startswith("transformers"))
        assert row["ratio_to_best_transformers"] == pytest.approx(row["audio_s_per_cpu_s"] / best)
        assert row["padding_waste"] == 0 or engine in ("transformers-eager-batch8", "transformers-sdpa-sorted")
    assert rows["log-normal", ENGINES[0]]["padding_waste"] > 0.3
    assert found["features"]["ratio"] > 1
    assert found["features"]["max_abs_error"] < 1e-4
    claims = [claim for claim in found["claims"] if claim["measured"] is not None]
    assert all(f"{claim['claim']}: " in done.stdout for claim in found["claims"])
    assert all(claim["holds"] in (True, False) for claim in claims)


def test_the_picture_in_the_readme_is_that_of_the_committed_figures(tmp_path):
    picture = tmp_path / "picture.svg"
    result = "benchmarks/results/encoder-amd-epyc-zen5-2-cores-base.json"
    command = [sys.executable, "-m", "benchmarks.encoder.chart", result, str(picture)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert picture.read_text() == (ROOT / "docs/encoder-speed.svg").read_text()
