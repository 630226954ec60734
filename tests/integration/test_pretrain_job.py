"""The pretrain job as a person runs it: to its end, killed and begun again, with two workers, and what it leaves."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel

from jobs import pretrain as job
from tests.integration import jobs
from tests.integration.pretraining import arguments, checkpoints, command, log, pretrain
from w2vb_ray import storage
from w2vb_ray.errors import UserError

LAST = "checkpoints/update-000000040"


def stopped_at_next(uri: Path, number: signal.Signals) -> int:
    """Exit code of a run that gets a signal as soon as it has written a checkpoint."""
    before = checkpoints(uri)
    with subprocess.Popen(command(uri), cwd=jobs.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 200
        while checkpoints(uri) <= before:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(number)
    return running.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    uri = tmp_path_factory.mktemp("pretrain") / "whole"
    done = pretrain(uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"written to {uri}/{LAST}"
    assert "update 40: contrastive" in done.stdout
    return uri


def test_what_a_run_leaves(whole):
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == [
        f"update-0000000{update}" for update in (30, 35, 40)
    ]
    assert not (whole / "holder.json").exists()
    lines = log(whole)
    assert [line["update"] for line in lines] == list(range(1, 41))
    assert lines[-1]["epoch"] > 0
    assert {"contrastive_accuracy", "masked_prediction_gain", "probability_perplexity"} <= lines[0].keys()
    assert all(15 < line["audio_s"] < 60 for line in lines)
    assert len(list((whole / "tensorboard").iterdir())) == 8


def test_plain_transformers_loads_every_tensor(whole):
    model, report = AutoModel.from_pretrained(whole / LAST, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    stored = load_file(whole / LAST / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(one, stored[key]) for key, one in model.state_dict().items())
    AutoFeatureExtractor.from_pretrained(whole / LAST)


def test_embed_takes_the_checkpoint(whole, tmp_path):
    done = jobs.run("conf/embed/demo.yaml", f"sink.uri={tmp_path}", f"encoder.checkpoint={whole / LAST}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(next(iter(jobs.vectors(jobs.table(tmp_path, "utterances")).values()))) == 32


def test_killed_and_begun_again_is_the_same_bit_for_bit(whole, tmp_path):
    uri = tmp_path / "killed"
    assert stopped_at_next(uri, signal.SIGINT) == 7
    assert stopped_at_next(uri, signal.SIGKILL) == -signal.SIGKILL
    assert not (uri / LAST).exists()
    done = pretrain(uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on from update " in done.stdout
    expected, found = (load_file(run / LAST / "model.safetensors") for run in (whole, uri))
    assert all(torch.equal(one, expected[key]) for key, one in found.items())
    without_times = [[{**line, "wait_share": 0, "audio_s_per_s": 0} for line in log(run)] for run in (whole, uri)]
    assert without_times[0] == without_times[1]


def test_two_workers_are_one(whole, tmp_path):
    done = pretrain(tmp_path / "two", "workers.num_workers=2")
    assert done.returncode == 0, done.stdout + done.stderr
    expected, found = (load_file(run / LAST / "model.safetensors") for run in (whole, tmp_path / "two"))
    for key, one in found.items():
        assert float((one - expected[key]).norm()) <= 1e-4 * float(expected[key].norm()) + 1e-6, key
    for ours, theirs in zip(log(tmp_path / "two"), log(whole), strict=True):
        assert ours["contrastive_loss"] == pytest.approx(theirs["contrastive_loss"], rel=1e-4)


@pytest.mark.usefixtures("at_root", "clean_aws")
def test_a_run_on_s3_is_the_one_on_files(whole, endpoint, tmp_path, capsys):
    options = {"key": "testing", "secret": "testing", "endpoint_url": endpoint}
    fs = storage.filesystem("s3://runs", options)
    fs.mkdir("runs")
    uri = f"s3://runs/{tmp_path.name}"
    done = pretrain(uri, f"pretrain.storage={json.dumps(options)}")
    assert done.returncode == 0, done.stdout + done.stderr
    fs.invalidate_cache()
    assert len(fs.ls(f"{uri}/checkpoints")) == 3
    fs.get_file(f"{uri}/{LAST}/model.safetensors", str(tmp_path / "model.safetensors"))
    expected = load_file(whole / LAST / "model.safetensors")
    assert all(torch.equal(one, expected[key]) for key, one in load_file(tmp_path / "model.safetensors").items())
    assert job.main(arguments(uri, f"pretrain.storage={json.dumps(options)}")) == 0
    assert capsys.readouterr().out.startswith("nothing to do")


def test_waveforms(tmp_path):
    overrides = ["model.type=wav2vec2", "model.conv_dim=16", "pretrain.num_updates=2", "batches.min_crop_s=1"]
    done = pretrain(tmp_path / "waveforms", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        AutoModel.from_pretrained(tmp_path / "waveforms/checkpoints/update-000000002").config.model_type == "wav2vec2"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrain.seed=1"], "begun with other settings: pretrain.seed"),
        (["model.num_layers=3"], "begun with other settings: model.num_layers"),
        (["source.uri=nowhere.tsv", "pretrain.num_updates=41"], "nowhere.tsv"),
        (["model.checkpoint=nowhere/at/all", "pretrain.uri={new}"], "nowhere/at/all"),
        (["pretrain.uri=/proc/nowhere"], "pretrain.uri must be a place that can be written to, but /proc/nowhere"),
        (
            ["pretrain.uri=s3://none/run", "pretrain.storage={{endpoint_url: 'http://127.0.0.1:9'}}"],
            "pretrain.uri must be",
        ),
        (["pretrain.num_update=3"], "did you mean 'pretrain.num_updates'?"),
    ],
)
@pytest.mark.usefixtures("clean_aws", "at_root")
def test_one_clear_error_before_ray(overrides, message, whole, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        job.main(arguments(whole, *(one.format(new=tmp_path / "new") for one in overrides)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batches.audio_s=100000", "pretrain.num_updates=41"], "batches.audio_s must be at most the audio"),
        (["workers.num_workers=3", "cluster.num_cpus=5", "pretrain.uri={new}"], "num_workers=3 does not fit"),
    ],
)
def test_one_clear_error(overrides, message, whole, tmp_path):
    done = pretrain(whole, *(one.format(new=tmp_path / "new") for one in overrides))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert message in done.stderr


def test_a_second_run_waits_for_its_turn(tmp_path):
    uri = tmp_path / "shared"
    with subprocess.Popen(command(uri), cwd=jobs.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 100
        while not (uri / "holder.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = pretrain(uri)
        running.send_signal(signal.SIGINT)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    assert f"process {running.pid}, trains in {uri}" in done.stderr
    assert not (uri / "holder.json").exists()


@pytest.mark.usefixtures("at_root")
def test_nothing_to_do(whole, capsys):
    assert job.main(arguments(whole)) == 0
    assert capsys.readouterr().out == f"nothing to do: {whole}/{LAST} is after update 40\n"
