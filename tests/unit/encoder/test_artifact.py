import json
import shutil

import pytest
import torch

from tests.unit.encoder.checkpoints import load
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.precision import loaded_bytes, resolve_precision
from w2vb_ray.encoder.quantized_model import SCALE
from w2vb_ray.errors import CheckpointError, ConfigError
from w2vb_ray.export.write import check_vacant, publish, write_weights


def resolve(folder):
    return resolve_checkpoint(EncoderSection(checkpoint=str(folder)))


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    write_weights(resolve(checkpoint("bert")), "int8", folder)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """An artifact that a test may damage."""
    return shutil.copytree(made, tmp_path / "copy")


def edit(folder, **changes):
    path = folder / "artifact.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_read(made, checkpoint):
    found, source = resolve(made), resolve(checkpoint("bert"))
    assert found.artifact.kind == "int8"
    assert found.weights == [made / "model.safetensors"]
    assert found.weights_sha256 != source.weights_sha256
    assert (found.num_layers, found.dimension, found.untrained) == (3, 32, source.untrained)
    assert json.loads((made / "artifact.json").read_text())["source"]["weights_sha256"] == source.weights_sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format 2"),
        ({"kind": "int4"}, "kind 'int4'"),
        ({"files": []}, "name its weights"),
        ({"files": "model.safetensors"}, "name its weights"),
        ({"files": ["../model.safetensors"]}, "name its weights"),
        ({"files": [".."]}, "name its weights"),
        ({"files": [7]}, "name its weights"),
        ({"source": {}}, "name its weights"),
        ({"source": None}, "name its weights"),
        ({"files": ["weights.safetensors"]}, "lacks weights.safetensors"),
    ],
)
def test_a_description_that_is_wrong(changes, message, copy):
    edit(copy, **changes)
    with pytest.raises(CheckpointError, match=message):
        resolve(copy)


def test_no_json(copy):
    (copy / "artifact.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"artifact\.json.*is not JSON"):
        resolve(copy)


@pytest.mark.parametrize("damage", ["missing", "shape", "scales", "unknown", "file"])
def test_weights_that_are_wrong(damage, copy):
    from safetensors.torch import load_file, save_file

    path, key = copy / "model.safetensors", "encoder.layers.1.ffn1.intermediate_dense.weight"
    if damage == "file":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        state = load_file(path)
        match damage:
            case "missing":
                del state["encoder.layers.0.final_layer_norm.weight"]
            case "shape":
                state[key] = state[key][:-1].clone()
            case "scales":
                state[key + SCALE] = state[key + SCALE][:-1].clone()
            case "unknown":
                state["encoder.layers.9.more"] = torch.zeros(3)
        save_file(state, path)
    with pytest.raises(CheckpointError, match=r"encoder\.checkpoint must load as wav2vec2-bert"):
        load(copy, precision="auto")


@pytest.mark.parametrize(
    ("kind", "wanted", "device", "expected"),
    [
        ("int8", "auto", "cpu", "int8"),
        ("int8", "auto", "cuda", "bf16"),
        ("int8", "fp32", "cpu", "fp32"),
        ("int8", "int8", "cuda", "int8"),
        ("int8_weights", "auto", "cpu", "fp32"),
        ("int8_weights", "auto", "cuda", "bf16"),
        ("fp16", "auto", "cpu", "fp32"),
        (None, "auto", "cuda", "bf16"),
        (None, "fp16", "cuda", "fp16"),
        ("onnx", "auto", "cuda", "fp32"),
        ("onnx", "fp16", "cuda", "fp16"),
        ("onnx_int8", "auto", "cpu", "int8"),
        ("openvino", "fp32", "cpu", "fp32"),
        ("openvino_int8", "int8", "cpu", "int8"),
    ],
)
def test_precision(kind, wanted, device, expected, copy, checkpoint):
    if kind is not None:
        edit(copy, kind=kind)
    found = resolve(checkpoint("bert") if kind is None else copy)
    assert resolve_precision(wanted, found, device) == expected


@pytest.mark.parametrize("kind", ["int8_weights", "bf16", None])
def test_int8_is_for_artifacts_of_that_kind(kind, copy, checkpoint):
    if kind is not None:
        edit(copy, kind=kind)
    with pytest.raises(ConfigError, match=r"precision int8 needs an artifact of kind int8.*jobs\.export"):
        resolve_precision("int8", resolve(checkpoint("bert") if kind is None else copy), "cpu")


@pytest.mark.parametrize(
    ("kind", "wanted"), [("onnx", "bf16"), ("onnx", "int8"), ("onnx_int8", "fp32"), ("openvino", "fp16")]
)
def test_a_graph_has_the_precision_that_it_was_made_with(kind, wanted, copy):
    edit(copy, kind=kind)
    with pytest.raises(ConfigError, match=rf"encoder\.precision must be auto or .* of kind {kind}, but is {wanted}"):
        resolve_precision(wanted, resolve(copy), "cuda")


def test_memory_is_that_of_what_is_loaded(copy):
    stored = (copy / "model.safetensors").stat().st_size
    assert loaded_bytes(resolve(copy), "auto") == stored
    assert loaded_bytes(resolve(copy), "fp32") == 4 * stored
    for kind, times in (("fp16", 2), ("onnx", 2), ("openvino", 3), ("openvino_int8", 2)):
        edit(copy, kind=kind)
        assert loaded_bytes(resolve(copy), "auto") == times * stored


def test_through_an_object_store(made, cache):
    uri = "memory://models/int8"
    check_vacant(uri, {})
    publish(made, uri, {})
    found = resolve(uri)
    assert found.artifact == resolve(made).artifact
    assert found.weights_sha256 == resolve(made).weights_sha256
    assert load(uri, precision="auto").precision == "int8"
    with pytest.raises(ConfigError, match=r"export\.uri must be an empty place, but memory://models/int8 holds"):
        check_vacant(uri, {})


def test_a_file_in_the_place_of_the_artifact(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"export\.uri must be an empty place"):
        check_vacant(str(tmp_path / "file"), {})
    check_vacant(str(tmp_path / "new" / "deeper"), {})
