"""`python -m benchmarks.plan` as a command, small."""

import json
import subprocess
import sys

import pytest

from benchmarks.machine import ROOT


@pytest.mark.parametrize("manifest", ["parquet", "csv"])
def test_plan_benchmark_counts_what_it_planned(tmp_path, manifest):
    result = tmp_path / "plan.json"
    command = [sys.executable, "-m", "benchmarks.plan", "--rows", "1000", "3000", "--manifest", manifest]
    command += ["--rows-per-file", "400", "--json", str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr

    found = json.loads(result.read_text())
    assert {"cpu", "cores", "ram_gib", "versions", "commit"} <= set(found["machine"])
    assert [row["rows"] for row in found["rows"]] == [1000, 3000]
    for row in found["rows"]:
        assert row["planned"] + row["unchanged"] == row["rows"]
        assert 0 < row["planned"] < row["rows"] / 20
        assert row["seconds"] > 0
        assert row["peak_memory_mib"] >= row["memory_before_mib"] > 50
    assert "1,000 to 3,000 rows" in found["claims"][0]["text"]
