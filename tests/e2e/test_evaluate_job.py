"""The command as a person runs it, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.encoder.checkpoints import save
from w2vb_ray.config import load_config
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.export.write import write_weights

ROOT = Path(__file__).parents[2]
CONF = "conf/evaluate/selfcheck.yaml"
QUICK = ["selfcheck.max_duration_s=1", "selfcheck.num_trials=2", "encoder.device=cpu"]
ROWS = ["order", "neighbours", "frames", "repeat", "budget", "transformers"]


@pytest.fixture(scope="session")
def evaluate(tmp_path_factory):
    """Run the job with these arguments."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def run(*arguments):
        command = [sys.executable, "-m", "jobs.evaluate", *arguments]
        env = {**os.environ, "W2VB_RAY_CACHE": cache, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "COLUMNS": "100"}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=280)

    return run


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_embedded_model_holds(precision, evaluate, tmp_path):
    report = tmp_path / "report.json"
    done = evaluate(CONF, *QUICK, f"encoder.precision={precision}", f"evaluate.report_uri={report}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"embedded in {precision} on cpu"
    assert [line.split()[1] for line in lines if line.startswith("│")] == ROWS
    assert "UNTRAINED" in done.stdout
    assert lines[-1].startswith("all checks hold (")
    written = json.loads(report.read_text(encoding="utf-8"))
    assert (written["holds"], written["precision"], written["trained"]) == (True, precision, False)
    assert [row["check"] for row in written["checks"]] == ROWS
    assert all(row["comparisons"] > 0 and not row["failed"] for row in written["checks"])


def test_a_graph_holds_too_and_is_not_compared_with_transformers(evaluate, tmp_path):
    write_weights(resolve_checkpoint(EncoderSection()), "onnx_int8", tmp_path)
    done = evaluate(CONF, *QUICK, f"encoder.checkpoint={tmp_path}", "encoder.precision=auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == f"{tmp_path} in int8 on cpu"
    assert "transformers was skipped: a graph has no weights that transformers loads" in done.stdout


def test_print_config_shows_what_loads_as_the_same_config(evaluate, tmp_path):
    done = evaluate(CONF, "--print-config", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    shown = tmp_path / "shown.yaml"
    shown.write_text(done.stdout, encoding="utf-8")
    assert load_config(EvaluateConfig, str(shown)) == load_config(EvaluateConfig, str(ROOT / CONF), QUICK)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selfcheck.num_trial=3", "error: selfcheck.num_trial: unknown option; did you mean 'selfcheck.num_trials'?"),
        ("encoder.checkpoint=/no/such/folder", "error: encoder.checkpoint must be a folder, a URI, a hub id"),
        ("encoder.precision=int8", "error: encoder.precision int8 needs an artifact"),
        ("encoder.layers=[99]", "error: encoder.layers must name distinct hidden states"),
        ("audio.window_context_s=20", "error: audio.max_window_s must be more than twice audio.window_context_s"),
    ],
)
def test_a_mistake_is_exit_2_with_one_message(override, message, evaluate):
    done = evaluate(CONF, override)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_a_folder_without_safetensors_is_exit_2(evaluate, tmp_path):
    config = {"model_type": "wav2vec2-bert", "num_hidden_layers": 1, "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    done = evaluate(CONF, f"encoder.checkpoint={tmp_path}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must hold *.safetensors" in done.stderr


RETRIEVAL = "conf/evaluate/retrieval.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The embedded architecture with other random weights, and no word that it is untrained."""
    return save(tmp_path_factory.mktemp("trained"), "bert")


def test_retrieval_of_a_model_beside_what_needs_none(evaluate, trained, tmp_path):
    report = tmp_path / "report.json"
    settings = ["retrieval.num_samples=50", f"evaluate.report_uri={report}", "encoder.device=cpu"]
    done = evaluate(RETRIEVAL, f"encoder.checkpoint={trained}", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(report.read_text(encoding="utf-8"))
    names = [row["name"] for row in written["vectors"]]
    layers = [f"{kind}, layer {layer}" for kind in ("random weights", "model") for layer in range(4)]
    assert names == ["duration", "log-mel statistics", "MFCC statistics", *layers]
    assert (written["num_items"], written["num_pairs"], written["num_unread"]) == (14, 90, 0)
    for row in written["vectors"]:
        assert row["plain"]["recall"]["low"] <= row["plain"]["recall"]["value"] <= row["plain"]["recall"]["high"]
        assert row["centred"]["xsim_error"] is None
        assert row["name"] in done.stdout
    assert "UNTRAINED" not in done.stdout


def test_retrieval_from_the_table_of_embed_is_that_of_its_model(evaluate, trained, tmp_path):
    sink, small = tmp_path / "sink", ["retrieval.num_samples=50"]
    embed = [sys.executable, "-m", "jobs.embed", "conf/embed/demo.yaml", f"sink.uri={sink}"]
    subprocess.run([*embed, f"encoder.checkpoint={trained}"], cwd=ROOT, check=True, capture_output=True, timeout=280)
    found = {}
    for name, arguments in (
        ("table", ["source=null", f"retrieval.table_uri={sink}"]),
        ("model", [f"encoder.checkpoint={trained}", "encoder.device=cpu"]),
    ):
        done = evaluate(RETRIEVAL, *arguments, *small, f"evaluate.report_uri={tmp_path / name}")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = json.loads((tmp_path / name).read_text(encoding="utf-8"))["vectors"]
        found[name] = {row["name"]: row["centred"]["reciprocal_rank"]["value"] for row in rows}
    assert set(found["table"]) == {"duration", "embedding"}
    assert found["table"]["embedding"] == pytest.approx(found["model"]["model, layer 3"], abs=0.02)
    assert found["table"]["duration"] == pytest.approx(found["model"]["duration"], abs=1e-9)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source=null"], "needs either source.uri or retrieval.table_uri"),
        (["retrieval.item_column=nothing"], "retrieval.item_column must be a column"),
        (["retrieval.min_items=1000"], "retrieval.min_items (1000)"),
        (["source=null", "retrieval.table_uri=/no/such"], "is no Delta table"),
    ],
)
def test_a_mistake_in_retrieval(overrides, message, evaluate):
    done = evaluate(RETRIEVAL, *overrides)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr
