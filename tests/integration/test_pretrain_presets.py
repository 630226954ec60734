"""The presets for large models: two updates of each on a CPU. `pytest -m slow`: they take gigabytes and minutes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, Wav2Vec2BertConfig, Wav2Vec2BertModel

from tests.integration import jobs
from tests.integration.pretraining import log

pytestmark = pytest.mark.slow

HERE = [
    "source.uri=tests/data/speech/manifest.tsv", "cluster.address=local", "workers.use_gpu=false",
    "workers.num_workers=1", "workers.num_threads=2", "batches.audio_s=12", "batches.max_frames=800",
    "batches.min_crop_s=1", "pretrain.num_updates=2", "pretrain.log_updates=1",
]  # fmt: skip


def run(preset: str, uri: Path, *overrides: str) -> list[dict[str, float]]:
    command = [
        sys.executable,
        "-m",
        "jobs.pretrain",
        f"conf/pretrain/{preset}.yaml",
        f"pretrain.uri={uri}",
        *HERE,
        *overrides,
    ]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = log(uri)
    assert [line["update"] for line in lines] == [1, 2]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert all(line["gradient_norm"] > 0 for line in lines)
    return lines


@pytest.mark.parametrize(("preset", "model_type"), [("base", "wav2vec2-bert"), ("base-waveform", "wav2vec2")])
def test_base(preset, model_type, tmp_path):
    run(preset, tmp_path)
    config = AutoModel.from_pretrained(tmp_path / "checkpoints/update-000000002").config
    assert (config.model_type, config.hidden_size) == (model_type, 768)
    assert (config.num_hidden_layers, config.num_attention_heads) == (12, 12)


def test_continue(tmp_path):
    """From a checkpoint as wide as `facebook/w2v-bert-2.0`, with nine of its 24 layers, of which the eighth counts."""
    torch.manual_seed(0)
    before = Wav2Vec2BertModel(Wav2Vec2BertConfig(num_hidden_layers=9))
    before.save_pretrained(tmp_path / "before")
    run("continue", tmp_path / "run", f"model.checkpoint={tmp_path / 'before'}")
    after = AutoModel.from_pretrained(tmp_path / "run/checkpoints/update-000000002").state_dict()
    assert after.keys() == before.state_dict().keys()
    moved = [not torch.equal(one, after[key]) for key, one in before.state_dict().items()]
    assert sum(moved) > 0.9 * len(moved)
