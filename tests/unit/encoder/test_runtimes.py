"""Exported graphs: what is said when a runtime, a device or a file is not there; fetching; unwanted layers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.encoder.checkpoints import load, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.onnx_runtime import choose_providers
from w2vb_ray.encoder.openvino_runtime import open_openvino
from w2vb_ray.errors import CheckpointError, ConfigError
from w2vb_ray.export.write import publish, write_weights

CUDA = torch.device("cuda")
TENSORRT, ON_GPU, ON_CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


def resolve(folder):
    return resolve_checkpoint(EncoderSection(checkpoint=str(folder)))


@pytest.fixture
def made(checkpoint, exported):
    """Kind -> folder of an artifact."""
    return lambda kind: exported(checkpoint("bert"), kind)


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("onnx", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino")]
)
def test_a_runtime_that_is_not_installed(kind, package, extra, made, monkeypatch):
    folder = made(kind)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs .*not installed.*pip install 'w2vb_ray\[{extra}\]'"):
        load(folder, precision="auto")


@pytest.mark.parametrize(
    ("kind", "package"), [("onnx", "onnxscript"), ("onnx_int8", "onnxruntime"), ("openvino_int8", "nncf")]
)
def test_a_tool_that_is_not_installed(kind, package, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"export\.kind needs {package}, which is not installed"):
        write_weights(resolve(checkpoint("bert")), kind, tmp_path)


@pytest.mark.parametrize(
    ("available", "precision", "expected"),
    [
        ([TENSORRT, ON_GPU, ON_CPU], "fp16", [TENSORRT, ON_GPU, ON_CPU]),
        ([TENSORRT, ON_GPU, ON_CPU], "fp32", [TENSORRT, ON_GPU, ON_CPU]),
        ([ON_GPU, ON_CPU], "int8", [ON_GPU, ON_CPU]),
    ],
)
def test_providers_of_a_gpu(available, precision, expected, made, cache):
    providers = choose_providers(resolve(made("onnx")), precision, CUDA, available)
    assert [name for name, _ in providers] == expected
    if TENSORRT in available:
        settings = providers[0][1]
        assert settings["trt_fp16_enable"] == (precision == "fp16")
        assert Path(settings["trt_engine_cache_path"]).is_dir()
        assert settings["trt_profile_min_shapes"] == "input_features:1x1x160,attention_mask:1x1"


def test_a_cpu_takes_no_other(made):
    providers = choose_providers(resolve(made("onnx")), "fp32", torch.device("cpu"), [TENSORRT, ON_GPU, ON_CPU])
    assert providers == [(ON_CPU, {})]


@pytest.mark.parametrize(
    ("available", "precision", "message"),
    [([ON_CPU], "fp32", r"encoder\.device must be cpu"), ([ON_GPU, ON_CPU], "fp16", "needs TensorRT")],
)
def test_no_provider(available, precision, message, made):
    with pytest.raises(ConfigError, match=message):
        choose_providers(resolve(made("onnx")), precision, CUDA, available)


def test_openvino_is_for_cpus(made):
    with pytest.raises(ConfigError, match=r"encoder\.device must be cpu for an openvino artifact"):
        open_openvino(resolve(made("openvino")), [3], CUDA)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_graph_that_is_damaged(kind, made, tmp_path):
    publish(made(kind), str(tmp_path / "copy"), {})
    graph = tmp_path / "copy" / resolve(made(kind)).artifact.files[0]
    graph.write_bytes(graph.read_bytes()[:2_000])
    with pytest.raises(CheckpointError, match=r"encoder\.checkpoint must hold a graph"):
        load(tmp_path / "copy", precision="auto")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_inner_layers_alone_are_those_of_the_whole(kind, made):
    (waveform,) = waveforms(16_000)
    whole = load(made(kind), precision="auto", layers=[0, 1, 3]).encode([waveform], keep_frames=True)[0]
    part = load(made(kind), precision="auto", layers=[1, 0]).encode([waveform], keep_frames=True)[0]
    for mine, theirs in ((0, 1), (1, 0)):
        np.testing.assert_allclose(part.frames[mine], whole.frames[theirs], rtol=1e-4, atol=1e-5)
    assert np.abs(part.frames[0] - whole.frames[2]).max() > 0.1


@pytest.mark.parametrize("kind", ["onnx_int8", "openvino"])
def test_a_store_gives_the_files_that_the_artifact_names(kind, made, cache):
    publish(made(kind), f"memory://models/{kind}", {})
    found = resolve(f"memory://models/{kind}")
    assert found.weights_sha256 == resolve(made(kind)).weights_sha256
    assert load(f"memory://models/{kind}", precision="auto").encode(waveforms(8_000))[0].num_frames == 24
