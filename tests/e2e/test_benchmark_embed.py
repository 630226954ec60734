"""The benchmark of the embed job runs at a tiny size and writes what the figures in the README are taken from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMBERS = (
    "audio_per_wall_s",
    "audio_per_steady_s",
    "audio_per_cpu_s",
    "startup_s",
    "steady_s",
    "ratio_to_script_wall",
    "ratio_to_script_steady",
)
SAMPLED = ("audio_per_steady_cpu_s", "ratio_to_script_cpu")  # on a busy machine a tenth of a second has no sample


@pytest.mark.timeout(300)
def test_a_tiny_run_writes_every_row(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.embed", "--quick", "--minutes", "0.1", "--layers", "1"]
    done = subprocess.run(
        [*command, "--sets", "skewed", "--json", str(result)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "NOT the base size" in done.stdout

    found = json.loads(result.read_text())
    assert set(found) == {"machine", "settings", "sets", "rows", "claims", "repetitions"}
    assert {"cpu", "cores", "ram_gib", "versions", "commit"} <= set(found["machine"])
    assert found["settings"]["full_size_model"] is False
    rows = {row["row"]: row for row in found["rows"]}
    assert set(rows) == {"script", "encoder alone", "job"}
    for row in rows.values():
        assert row["audio_s"] == pytest.approx(found["sets"]["skewed"]["audio_s"], rel=0.01)
        assert [key for key in NUMBERS if not row[key] > 0] == []
        assert [key for key in SAMPLED if not row[key] >= 0] == []
        assert 0 <= row["padding_waste"] < 1
        assert row["peak_uss"]["driver"] > 0
    assert {"driver", "encoder", "read/write", "raylet+gcs"} <= set(rows["job"]["peak_rss"])
    assert rows["script"]["attention"] == "sdpa"
    assert rows["job"]["outside_encoder"] < 1
    assert {claim["key"] for claim in found["claims"]} == {
        "outside_encoder",
        "over_encoder_alone",
        "ratio_to_script_steady",
    }
