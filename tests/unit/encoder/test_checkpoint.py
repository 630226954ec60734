import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.encoder.checkpoints import load, save, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.checkpoint import resolve_layers
from w2vb_ray.errors import CheckpointError


def resolve(checkpoint, **options):
    return resolve_checkpoint(EncoderSection(checkpoint=str(checkpoint), **options))


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A tiny checkpoint that a test may damage."""
    return shutil.copytree(checkpoint("bert"), tmp_path / "copy")


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_local_folder(checkpoint):
    folder = checkpoint("bert")
    found = resolve(folder)
    assert (found.path, found.name, found.model_type) == (folder, str(folder), "wav2vec2-bert")
    assert (found.num_layers, found.dimension, found.untrained) == (3, 32, False)
    assert found.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_shards_are_hashed_in_order_of_name(copy):
    (copy / "a.safetensors").write_bytes(b"first")
    content = b"first" + (copy / "model.safetensors").read_bytes()
    assert resolve(copy).weights_sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "whisper"}, "model_type of wav2vec2-bert.*'whisper'"),
        ({"model_type": None}, "model_type of wav2vec2-bert.*None"),
        ({"hidden_size": None}, "state hidden_size"),
        ({"feature_projection_input_dim": 80}, "160 features per frame.*takes 80"),
        ({"model_type": "hubert", "conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "one of 400 every 160"),
    ],
)
def test_config_of_another_model(copy, changes, message):
    edit(copy, **changes)
    with pytest.raises(CheckpointError, match=rf"^encoder\.checkpoint must .*{message}"):
        resolve(copy)


def test_config_that_is_not_json(copy):
    (copy / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"readable config\.json"):
        resolve(copy)


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json; point it at"):
        resolve(tmp_path)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no/such", "no/such/folder"])
def test_missing_folder(name):
    with pytest.raises(CheckpointError, match=f"'{name}' is no folder; check the path"):
        resolve(name)


def test_pickled_weights_are_never_read(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin; convert it"):
        resolve(copy)


def test_damaged_weights(copy):
    (copy / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="must load as wav2vec2-bert"):
        load(copy)


def test_weights_of_another_shape(copy):
    edit(copy, intermediate_size=40)
    with pytest.raises(CheckpointError, match="must load as wav2vec2-bert"):
        load(copy)


def test_missing_weights_are_not_made_up(copy):
    edit(copy, num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"lacks \d+, such as encoder\.layers\.3"):
        load(copy)


def test_features_this_package_does_not_make(copy):
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sampling_rate": 8_000}))
    with pytest.raises(CheckpointError, match="sampling_rate 16000"):
        load(copy)


@pytest.mark.parametrize("layers", [[], [4], [-5], [-1, 3]])
def test_layers_that_are_not_there(layers, checkpoint):
    with pytest.raises(CheckpointError, match=r"encoder\.layers must name distinct hidden states from -4 to 3"):
        resolve(checkpoint("bert"), layers=layers)


def test_layers_keep_their_order():
    assert resolve_layers([-1, 0, 2], 3) == [3, 0, 2]


def test_normalising_follows_the_preprocessor_config(tmp_path):
    folder = save(tmp_path / "model", "wav2vec2-group")
    quiet = [waveforms(16_000)[0] // 64]
    plain = load(folder).encode(quiet)[0].pooled[0]
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert settings["do_normalize"] is False
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_normalize": True}))
    assert not (load(folder).encode(quiet)[0].pooled[0] == plain).all()
    (folder / "preprocessor_config.json").unlink()
    assert (load(folder).encode(quiet)[0].pooled[0] == plain).all()  # group norm: not by default


def test_the_embedded_model_is_trained_and_small(cache):
    found = resolve("embedded")
    assert (found.untrained, found.num_layers, found.dimension) == (False, 4, 144)
    assert sum(path.stat().st_size for path in found.path.iterdir()) < 25e6
    assert {tensor.dtype for path in found.weights for tensor in load_file(path).values()} == {torch.float16}
    assert not cache.exists()  # it is where the package is
    assert (found.path / "README.md").is_file()


def test_the_driver_needs_no_torch(checkpoint):
    code = (
        "import sys; from types import SimpleNamespace as N; from w2vb_ray.encoder import resolve_checkpoint;"
        f"resolve_checkpoint(N(checkpoint={str(checkpoint('bert'))!r}, layers=[-1], storage={{}}, revision=None));"
        "print([m for m in ('torch', 'transformers', 'pydantic', 'fsspec', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
