"""The command as a person runs it, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jobs import evaluate as job
from tests.unit.encoder.checkpoints import save
from w2vb_ray.config import load_config
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import UserError

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
    assert "UNTRAINED" not in done.stdout
    assert lines[-1].startswith("all checks hold (")
    written = json.loads(report.read_text(encoding="utf-8"))
    assert (written["holds"], written["precision"], written["trained"]) == (True, precision, True)
    assert [row["check"] for row in written["checks"]] == ROWS
    assert all(row["comparisons"] > 0 and not row["failed"] for row in written["checks"])


def test_a_graph_holds_too_and_is_not_compared_with_transformers(evaluate, exported):
    folder = exported("embedded", "onnx_int8")
    done = evaluate(CONF, *QUICK, f"encoder.checkpoint={folder}", "encoder.precision=auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == f"{folder} in int8 on cpu"
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
        ("selfcheck.num_trial=3", "selfcheck.num_trial: unknown option; did you mean 'selfcheck.num_trials'?"),
        ("encoder.checkpoint=/no/such/folder", "encoder.checkpoint must be a folder, a URI, a hub id"),
        ("encoder.precision=int8", "encoder.precision int8 needs an artifact"),
        ("encoder.layers=[99]", "encoder.layers must name distinct hidden states"),
        ("audio.window_context_s=20", "audio.max_window_s must be more than twice audio.window_context_s"),
    ],
)
@pytest.mark.usefixtures("at_root")
def test_a_mistake_has_one_message(override, message, capsys):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        job.main([CONF, override])
    assert capsys.readouterr().out == ""


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
    settings = ["evaluate.num_samples=50", f"evaluate.report_uri={report}", "encoder.device=cpu"]
    done = evaluate(RETRIEVAL, f"encoder.checkpoint={trained}", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    (suite,) = json.loads(report.read_text(encoding="utf-8"))["suites"]
    figures = {figure["name"]: figure for figure in suite["figures"]}
    assert list(figures) == ["R@1", "xSIM error", "R@1, centred", "MRR, centred"]
    layers = [f"{kind}, layer {layer}" for kind in ("random weights", "model") for layer in range(4)]
    names = ["duration", "log-mel statistics", "MFCC statistics", *layers]
    for figure in figures.values():
        assert list(figure["values"]) == names
        assert all(one["low"] <= one["value"] <= one["high"] for one in figure["values"].values())
    assert figures["R@1"]["chance"] == pytest.approx(0.083, abs=0.001)
    assert suite["notes"][0].startswith("14 items in 10 languages")
    assert len(suite["matrix"]["cells"]) == 10
    assert all(name in done.stdout for name in names)
    assert "UNTRAINED" not in done.stdout


def test_retrieval_from_the_table_of_embed_is_that_of_its_model(evaluate, trained, tmp_path):
    sink, small = tmp_path / "sink", ["evaluate.num_samples=50"]
    embed = [sys.executable, "-m", "jobs.embed", "conf/embed/demo.yaml", f"sink.uri={sink}"]
    subprocess.run([*embed, f"encoder.checkpoint={trained}"], cwd=ROOT, check=True, capture_output=True, timeout=280)
    found = {}
    for name, arguments in (
        ("table", ["source=null", f"evaluate.table_uri={sink}"]),
        ("model", [f"encoder.checkpoint={trained}", "encoder.device=cpu"]),
    ):
        done = evaluate(RETRIEVAL, *arguments, *small, f"evaluate.report_uri={tmp_path / name}")
        assert done.returncode == 0, done.stdout + done.stderr
        (suite,) = json.loads((tmp_path / name).read_text(encoding="utf-8"))["suites"]
        found[name] = {kind: one["value"] for kind, one in suite["figures"][-1]["values"].items()}
    assert set(found["table"]) == {"duration", "embedding"}
    assert found["table"]["embedding"] == pytest.approx(found["model"]["model, layer 3"], abs=0.02)
    assert found["table"]["duration"] == pytest.approx(found["model"]["duration"], abs=1e-9)
    done = evaluate(RETRIEVAL, "source=null", f"evaluate.table_uri={sink}", "evaluate.suite=probes", *small,
                    "probes.columns={speaker: null}")  # fmt: skip
    assert "speaker: " in done.stdout, done.stderr


PHONES = {"a": 300, "e": 700, "i": 1_200, "o": 2_000, "u": 3_100}


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Utterances whose phones are tones, in four languages, with their CTM."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    rows, phones = ["path\tlanguage\tspeaker\tparallel_id"], []
    for language in ("deu", "fra", "hun", "spa"):
        for number in range(8):
            names = [name for _ in range(3) for name in rng.permutation(list(PHONES))]
            start_s, pieces = 0.0, []
            for name in names:
                duration_s = rng.integers(6, 12) / 100
                time_s = np.arange(int(duration_s * 16_000)) / 16_000
                pieces.append(np.sin(2 * np.pi * PHONES[name] * time_s) * rng.uniform(0.2, 0.5))
                phones.append(f"{language}/{number} 1 {start_s:.3f} {duration_s:.3f} {name}")
                start_s += duration_s
            waveform = np.concatenate(pieces)
            (folder / language).mkdir(exist_ok=True)
            noise = 0.003 * rng.standard_normal(len(waveform))
            soundfile.write(folder / language / f"{number}.wav", waveform + noise, 16_000)
            rows.append(f"{language}/{number}.wav\t{language}\tspeaker {number % 2}\titem {number}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "phones.ctm").write_text("\n".join(phones) + "\n", encoding="utf-8")
    return folder


def test_everything_in_one_run(evaluate, trained, tones, tmp_path):
    done = evaluate(
        "conf/evaluate/transfer.yaml", f"source.uri={tones}/manifest.tsv", f"phones.alignment_uri={tones}/phones.ctm",
        f"encoder.checkpoint={trained}", "encoder.device=cpu", "phones.unseen_languages=[hun]", "phones.snr_db=[10]",
        "evaluate.num_samples=50", "evaluate.layers=[0, 3]", "phones.num_triples=100", "retrieval.min_items=5",
        f"evaluate.html_uri={tmp_path}/page.html", f"evaluate.report_uri={tmp_path}/report.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    suites = {suite["suite"]: suite for suite in json.loads((tmp_path / "report.json").read_text("utf-8"))["suites"]}
    assert list(suites) == ["retrieval", "probes", "phones"]
    figures = {figure["name"]: figure["values"] for figure in suites["phones"]["figures"]}
    frames = ["log-mel", "log-mel, 5 frames", "MFCC"]
    assert list(figures["phone, seen languages"]) == [
        *frames, *(f"{kind}, layer {layer}" for kind in ("random weights", "model") for layer in (0, 3)),
    ]  # fmt: skip
    for name in ("phone, seen languages", "phone, other languages"):  # tones are the same in every language
        assert figures[name]["log-mel"]["value"] > 0.9
    assert figures["ABX error, across languages"]["log-mel"]["value"] < 0.05
    assert figures["boundaries, F1"]["log-mel"]["value"] > 0.7
    assert figures["speech in noise, 10 dB, AUC"]["energy"]["value"] > 0.8
    assert suites["probes"]["notes"][0].startswith("language: 4 classes (deu, fra, hun, spa) in 32 utterances, across")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<h2>") == 3
    assert html.count("t-SNE") == 2


@pytest.mark.parametrize("kind", ["int8", "onnx"])
def test_an_artifact_is_measured_like_a_checkpoint(kind, evaluate, exported, tmp_path):
    quick = ["evaluate.num_samples=20", "evaluate.layers=[2]", "retrieval.max_items=12"]
    found = {}
    for checkpoint in ("embedded", exported("embedded", kind)):
        report = tmp_path / "report.json"
        done = evaluate(RETRIEVAL, f"encoder.checkpoint={checkpoint}", *quick, f"evaluate.report_uri={report}")
        assert done.returncode == 0, done.stdout + done.stderr
        (suite,) = json.loads(report.read_text(encoding="utf-8"))["suites"]
        found[checkpoint] = suite["figures"][-1]["values"]
    ours, theirs = found.values()
    assert ours.keys() == theirs.keys()
    assert ours["random weights, layer 2"] == theirs["random weights, layer 2"]
    assert ours["model, layer 2"]["value"] == pytest.approx(theirs["model, layer 2"]["value"], abs=0.03)


def test_what_the_source_has_no_data_for_is_left_out(evaluate, tmp_path):
    done = evaluate(
        "conf/evaluate/transfer.yaml", "retrieval.item_column=nothing", "evaluate.num_samples=50",
        "evaluate.layers=[1]", "probes.columns={language: null}", "evaluate.report_uri=null",
        f"evaluate.html_uri={tmp_path}/page.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: retrieval.item_column must name columns of" in done.stdout
    assert "language, accuracy" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source=null"], "needs either source.uri or evaluate.table_uri"),
        (["retrieval.item_column=nothing"], "retrieval.item_column must name columns"),
        (["retrieval.min_items=1000"], "retrieval.min_items (1000)"),
        (["evaluate.layers=[9]"], "evaluate.layers must be hidden states from 0 to 4"),
        (["source=null", "evaluate.table_uri=/no/such"], "is no Delta table"),
        (["evaluate.suite=probes", "probes.columns={feeling: null}"], "there is no 'feeling' among"),
        (
            ["evaluate.suite=probes", "probes.columns={audio_uri: null}"],
            "audio_uri: there must be two classes",
        ),
        (["evaluate.suite=phones", "phones.alignment_uri=/no/such.ctm"], "there is no /no/such.ctm"),
        (["evaluate.suite=phones", "phones.alignment_uri=README.md"], "phones.alignment_uri must be CTM"),
        (["evaluate.suite=phones", "phones.alignment_uri=/dev/null"], "names 0 of 144; its first is empty"),
    ],
)
@pytest.mark.usefixtures("at_root")
def test_a_mistake_in_what_is_measured(overrides, message):
    with pytest.raises(UserError, match=re.escape(message)):
        job.main([RETRIEVAL, *overrides])


def test_a_mistake_in_what_is_measured_is_exit_2(evaluate):
    done = evaluate(RETRIEVAL, "retrieval.item_column=nothing")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "retrieval.item_column must name columns" in done.stderr
