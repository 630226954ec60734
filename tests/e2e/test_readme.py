"""The README keeps its word: its commands run, its tables say what the code says, its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from deltalake import DeltaTable

from tests.unit.encoder.checkpoints import load, save, waveforms
from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.errors import ExitCode, RejectReason

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ALONE = ROOT / "docs/onnx_alone.py"
READERS = sorted((ROOT / "docs/reading").glob("with_*.py"))
DEMO = ".venv/bin/python -m jobs.embed conf/embed/demo.yaml"
SUBMIT = "ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.embed conf/embed/s3.yaml"
PRINT_CONFIG = "python -m jobs.embed speech.yaml 'encoder.layers=[8, 16]' sink.frames=true --print-config"
SELFCHECK = "python -m jobs.evaluate conf/evaluate/selfcheck.yaml encoder.precision=fp32"
EXPORT = "python -m jobs.export conf/export/int8.yaml export.uri=int8"
EXPORT_ONNX = "python -m jobs.export conf/export/int8.yaml export.kind=onnx export.uri=onnx"
ENDPOINTS = [f"{section}.storage.endpoint_url=http://127.0.0.1:9000" for section in ("source", "sink")]

COVERED = {
    "make demo": "test_make_demo_prints_what_the_readme_shows",
    DEMO: "test_a_second_run_has_nothing_to_do",
    "make test": "test_make_has_the_command and .ci/run",
    "make lint": "test_make_has_the_command and .ci/run",
    "make bench": "test_make_has_the_command and test_benchmark_embed.py",
    'make chaos SEEDS="1 2 3"': "test_make_has_the_command and test_chaos.py",
    "make simulate SEEDS=1-1000": "test_make_has_the_command and test_interleavings.py",
    "python -m benchmarks.plan --rows 100000 1000000 10000000": "test_benchmark_plan.py",
    "source .venv/bin/activate": "comes with every venv",
    "python -m jobs.embed speech.yaml": "test_the_first_config_of_ones_own",
    PRINT_CONFIG: "test_print_config",
    SELFCHECK: "test_the_selfcheck and test_evaluate_job.py",
    EXPORT: "test_the_export",
    EXPORT_ONNX: "test_onnx_alone",
    "python docs/onnx_alone.py onnx recording.wav": "test_onnx_alone",
    "python -m jobs.evaluate conf/evaluate/transfer.yaml": "test_evaluate_job.py",
    "python -m jobs.pretrain conf/pretrain/tiny.yaml pretrain.uri=tiny": "test_pretrain_job.py",
    "python -m jobs.embed conf/embed/s3.yaml": "test_s3_commands and test_embed_s3.py",
    f"python -m jobs.embed conf/embed/s3.yaml {' '.join(ENDPOINTS)}": "test_s3_commands and test_embed_s3.py",
    'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(ray get-auth-token --generate)"': "test_ray_makes_a_token",
    "python -m jobs.maintain conf/embed/demo.yaml maintain.action=vacuum": "test_maintain_job.py",
    SUBMIT: "test_the_submit_command and test_ray_job.py",
}


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def after(command, language):
    """The first block of a language after the block of a command."""
    return blocks(README[README.index(f"```sh\n{command}\n") :], language)[0]


def rows_of(heading, level="##"):
    """Cells of the table under a heading, backquotes off."""
    section = re.split(rf"^{level}+ ", README.split(f"{level} {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def run(command, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", **environment}
    for name in ("RAY_ADDRESS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # make may have started this test
        env.pop(name, None)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=280)


def without_numbers(line):
    """What stays the same when other versions of the libraries give other digits, signs and widths."""
    return re.sub(r"[-+\s]*\d[\dTZ.]*(-[0-9a-f]{8})?", " 0", line).strip()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """What `make demo` printed, with the stamp taken for granted, and where its tables are."""
    sink = tmp_path_factory.mktemp("readme") / "demo"
    # -o: this environment is ready, whoever made it
    done = run(["make", "-o", f"{sys.prefix}/.installed", "demo", f"VENV={sys.prefix}", f"DEMO={sink}"])
    assert done.returncode == 0, done.stdout + done.stderr
    for table in ("utterances", "rejects"):
        DeltaTable(sink / table).create_checkpoint()  # readers must not stumble over its Parquet file
    return sink, done.stdout


def test_every_command_is_covered():
    commands = [line for block in blocks(README, "sh") for line in block.replace("\\\n", " ").splitlines()]
    assert sorted(commands) == sorted(COVERED)


def test_make_demo_prints_what_the_readme_shows(demo):
    sink, printed = demo
    shown = after("make demo", "text").replace("demo/", f"{sink}/")
    lines = iter([without_numbers(line) for line in printed.splitlines()])
    for line in shown.splitlines():
        if line and line != "...":
            assert without_numbers(line) in lines, f"{line!r} does not come, or not in this order, in:\n{printed}"


def test_a_second_run_has_nothing_to_do(demo):
    command = [sys.executable, *shlex.split(DEMO)[1:], f"sink.uri={demo[0]}"]
    done = run(command)
    assert done.returncode == 0, done.stderr
    for line in after(DEMO, "text").splitlines():
        assert line in done.stdout


@pytest.mark.parametrize("verb", ["test", "lint", "bench", "chaos", "simulate"])
def test_make_has_the_command(verb):
    done = run(["make", "-n", "-o", f"{sys.prefix}/.installed-test", verb, f"VENV={sys.prefix}"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{sys.prefix}/bin/"), "the environment is not taken as ready"
    assert verb not in ("test", "lint") or f"\nmake {verb}\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_ci_ends_with_the_tests():
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").rstrip().splitlines()[-1] == "make test"
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.fixture
def speech(tmp_path):
    """The README's own config."""
    path = tmp_path / "speech.yaml"
    path.write_text(blocks(README, "yaml")[0], encoding="utf-8")
    return path


def test_the_first_config_of_ones_own(speech):
    config = load_config(EmbedConfig, str(speech))
    assert config.source.language == "path:{language}/"
    assert config.encoder.checkpoint == "facebook/w2v-bert-2.0"


def test_print_config(speech):
    done = run([str(speech) if word == "speech.yaml" else word for word in shlex.split(PRINT_CONFIG)])
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert shown["encoder"]["layers"] == [8, 16]
    assert shown["sink"]["frames"] is True


def test_the_selfcheck():
    quick = ["selfcheck.max_duration_s=1", "selfcheck.num_trials=2", "encoder.device=cpu"]
    done = run([*shlex.split(SELFCHECK), *quick])
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [without_numbers(line) for line in done.stdout.splitlines()]
    shown = after(SELFCHECK, "text").splitlines()
    assert [line for line in shown if line != "..." and without_numbers(line) not in printed] == []


def test_the_export(tmp_path):
    done = run([*shlex.split(EXPORT)[:-1], f"export.uri={tmp_path / 'int8'}"])
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [without_numbers(line) for line in done.stdout.replace(f"{tmp_path}/", "").splitlines()]
    shown = after(EXPORT, "text").splitlines()
    assert [line for line in shown if line != "..." and without_numbers(line) not in printed] == []


@pytest.mark.parametrize("variant", ["embedded", "bert", "wav2vec2-layer", "wav2vec2-group"])
def test_onnx_alone(variant, tmp_path):
    checkpoint = variant if variant == "embedded" else save(tmp_path / "checkpoint", variant)
    overrides = [f"export.uri={tmp_path / 'onnx'}", f"encoder.checkpoint={checkpoint}", "gate.max_utterances=3"]
    done = run([*shlex.split(EXPORT_ONNX)[:-1], *overrides])
    assert done.returncode == 0, done.stdout + done.stderr
    (waveform,) = waveforms(33_333)
    soundfile.write(tmp_path / "recording.wav", waveform, 16_000)
    done = run([sys.executable, str(ALONE), str(tmp_path / "onnx"), str(tmp_path / "recording.wav")])
    assert done.returncode == 0, done.stderr
    expected = load(checkpoint).encode([waveform])[0].pooled[0]
    np.testing.assert_allclose([float(word) for word in done.stdout.split()], expected, atol=1e-4)


@pytest.mark.parametrize("overrides", [[], ENDPOINTS], ids=["aws", "endpoint"])
def test_s3_commands(overrides):
    config = load_config(EmbedConfig, str(ROOT / "conf/embed/s3.yaml"), overrides)
    assert config.source.uri.startswith("s3://")
    assert config.sink.storage == ({"endpoint_url": "http://127.0.0.1:9000"} if overrides else {})
    assert 'CONF = "conf/embed/s3.yaml"' in (ROOT / "tests/integration/test_embed_s3.py").read_text(encoding="utf-8")


def test_the_submit_command():
    ours, entrypoint = SUBMIT.split(" -- ")
    tested = (ROOT / "tests/e2e/test_ray_job.py").read_text(encoding="utf-8")
    words = [word for word in shlex.split(ours)[1:] if not word.startswith("http")]
    assert re.search(", ".join(f'"{word}"' for word in words[:3]), tested)
    assert ", ".join(f'"{word}"' for word in [*words[3:], "--"]) in tested
    assert entrypoint in COVERED


def test_ray_makes_a_token(tmp_path):
    done = run(["ray", "get-auth-token", "--generate"], HOME=str(tmp_path), RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) >= 32


def test_the_scripts_in_the_readme_are_those_in_the_folder():
    assert sorted(blocks(README, "python")) == sorted(path.read_text(encoding="utf-8") for path in [*READERS, ALONE])


@pytest.mark.parametrize("script", READERS, ids=lambda path: path.stem)
def test_a_reader_reads(script, demo, tmp_path):
    done = run([sys.executable, str(script), str(demo[0])], HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    said = {
        "with_datasets": "num_rows: 144",
        "with_deltalake": "14 utterances in {'eng'}",
        "with_pandas": "144 utterances in 21 languages",
        "with_polars": "shape: (21, 2)",
        "with_ray": "'norm': array([",
        "with_torch": "torch.Size([16, 144]) torch.float32",
    }
    assert said.get(script.stem, "bel") in done.stdout


@pytest.mark.parametrize("name", ["pandas", "polars", "duckdb", "pyarrow"])
def test_readers_take_languages_for_text(name, tmp_path):
    for number, language in enumerate(["nan", "no"]):
        folder = tmp_path / "utterances" / f"language={language}"
        folder.mkdir(parents=True)
        vector = pa.array([[1.0, float(number)]], pa.list_(pa.float32()))
        pq.write_table(pa.table({"text": ["x"], "duration_s": [1.0], "embedding": vector}), folder / "a.parquet")
    done = run([sys.executable, str(ROOT / f"docs/reading/with_{name}.py"), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert re.search(r"\bnan\b", done.stdout)
    assert re.search(r"\bno\b", done.stdout)


def test_exit_codes():
    assert [int(code) for code, *_ in rows_of("Exit codes")] == sorted(ExitCode)


def test_reject_reasons():
    assert [reason for reason, _ in rows_of("Why an utterance is rejected", "###")] == list(RejectReason)


@pytest.mark.parametrize(("key", "default"), [row[:2] for row in rows_of("Your own recordings")])
def test_the_key_has_the_default(key, default):
    section, name = key.split(".")
    field = EmbedConfig.model_fields[section].annotation.model_fields[name]
    known = None if field.is_required() else field.default
    assert yaml.safe_load(default or "null") == known


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        aim = (ROOT / page).parent / path if path else ROOT / page
        assert aim.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", aim.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}, target


def test_what_operations_says_to_look_at(demo, monkeypatch):
    import duckdb

    for code in blocks(OPERATIONS, "python"):
        code = code.replace("s3://my-embeddings/w2v-bert-2.0", str(demo[0])).replace('f"demo/', f'f"{demo[0]}/')
        done = run([sys.executable, "-c", code])
        assert done.returncode == 0, done.stderr
        assert done.stdout
    (query,) = blocks(OPERATIONS, "sql")
    rejects = demo[0].parent / "with_rejects" / "rejects" / "language=no"
    rejects.mkdir(parents=True)
    pq.write_table(pa.table({"reason": ["empty"], "detail": ["0 bytes"]}), rejects / "a.parquet")
    found = duckdb.sql(query.replace("'demo/rejects", f"'{rejects.parent}")).fetchall()
    assert found == [("no", "empty", 1, "0 bytes")]


def test_the_kubernetes_example_runs_a_command_that_loads():
    (example,) = [yaml.safe_load(block) for block in blocks(OPERATIONS, "yaml")]
    words = shlex.split(example["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "jobs.embed"]
    assert load_config(EmbedConfig, str(ROOT / words[3]), words[4:]).sink.uri.startswith("s3://")
