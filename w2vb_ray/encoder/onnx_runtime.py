"""onnxruntime under `GraphForward`: on a CPU, with CUDA, or with TensorRT, as far as they are there."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch

from w2vb_ray.encoder.artifact import ONNX, input_names, output_name
from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.fetch import cache_folder
from w2vb_ray.encoder.graph_forward import Run, missing_runtime, unusable_graph
from w2vb_ray.errors import ConfigError

_EXTERNAL = "session.model_external_initializers_file_folder_path"
_ERRORS = ("Fail", "RuntimeException", "InvalidArgument", "InvalidProtobuf", "InvalidGraph", "NotImplemented", "EPFail")
_Providers = list[tuple[str, dict[str, Any]]]

# Shapes for which TensorRT makes its engine once: 20 ms to 35 s, the default windows with their context, best at 10 s.
_SHAPES = {
    "input_features": ("1x1x160", "1x500x160", "1x1750x160"),
    "attention_mask": ("1x1", "1x500", "1x1750"),
    "input_values": ("1x400", "1x160000", "1x560000"),
}


def open_onnx(checkpoint: Checkpoint, layers: Sequence[int], precision: str, device: torch.device) -> Run:
    """A session with the graph of an artifact, on torch's number of threads.

    Args:
        checkpoint: an artifact of kind `onnx` or `onnx_int8`.
        layers: hidden states to give; what stands behind the last of them is not computed.
        precision: `fp32`, `int8`, or `fp16` with TensorRT.
        device: where it runs.

    Raises:
        ConfigError: onnxruntime is not installed, or has nothing for the device or the precision.
        CheckpointError: the files are no graph that it can run.
    """
    try:
        import onnxruntime

        state: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")  # has no types
    except ImportError as err:
        raise missing_runtime(checkpoint, "onnxruntime", "onnx", err) from err
    # None of them has another base than Exception.
    errors = tuple(getattr(state, name) for name in _ERRORS)
    providers = choose_providers(checkpoint, precision, device, onnxruntime.get_available_providers())
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors: what it warns of is how it places nodes
    options.add_session_config_entry(_EXTERNAL, str(checkpoint.path))
    outputs = [output_name(layer) for layer in layers]
    try:
        graph = _ending_at(checkpoint, outputs) if max(layers) < checkpoint.num_layers else str(checkpoint.path / ONNX)
        session: Any = onnxruntime.InferenceSession(graph, options, providers=providers)
    except errors as err:
        raise unusable_graph(checkpoint, f"onnxruntime {onnxruntime.__version__}", err) from err

    def run(feed: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        try:
            return session.run(outputs, feed)
        except errors as err:
            raise RuntimeError(str(err)) from err  # the encoder looks there for a lack of memory

    return run


def choose_providers(
    checkpoint: Checkpoint, precision: str, device: torch.device, available: Sequence[str]
) -> _Providers:
    """The fastest execution providers that are there, others behind them for what they cannot do.

    Raises:
        ConfigError: there is none for the device or the precision.
    """
    if device.type == "cpu":
        return [("CPUExecutionProvider", {})]
    gpu = [name for name in ("TensorrtExecutionProvider", "CUDAExecutionProvider") if name in available]
    if not gpu:
        raise ConfigError(
            "encoder.device must be cpu for an onnx artifact where onnxruntime has no CUDA provider, but is cuda; "
            "pip install onnxruntime-gpu in place of onnxruntime, or set encoder.device=cpu"
        )
    if precision == "fp16" and gpu[0] != "TensorrtExecutionProvider":
        raise ConfigError(
            "encoder.precision fp16 needs TensorRT for an onnx artifact, which onnxruntime does not find; install "
            "tensorrt, or set encoder.precision=auto"
        )
    providers: _Providers = []
    if gpu[0] == "TensorrtExecutionProvider":
        providers.append((gpu[0], _tensorrt(checkpoint, precision)))
    if gpu[-1] == "CUDAExecutionProvider":
        providers.append((gpu[-1], {"use_tf32": 0}))  # tf32 has the mantissa of fp16: not the numbers of fp32
    return [*providers, ("CPUExecutionProvider", {})]


def _tensorrt(checkpoint: Checkpoint, precision: str) -> dict[str, Any]:
    """Settings: one engine for all lengths, kept in the cache, since making it takes minutes."""
    names = input_names(checkpoint.model_type)
    shapes = zip(*(_SHAPES[name] for name in names), strict=True)
    profiles = [",".join(f"{name}:{size}" for name, size in zip(names, sizes, strict=True)) for sizes in shapes]
    cache = cache_folder() / "tensorrt" / f"{checkpoint.weights_sha256[:32]}-{precision}"
    cache.mkdir(parents=True, exist_ok=True)
    keys = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
    return {
        "trt_fp16_enable": precision == "fp16",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
        "trt_onnx_model_folder_path": str(checkpoint.path),
        **dict(zip(keys, profiles, strict=True)),
    }


def _ending_at(checkpoint: Checkpoint, outputs: Sequence[str]) -> bytes:
    """The graph without what none of the outputs needs: onnxruntime computes whatever is there."""
    try:
        import onnx
    except ImportError as err:
        raise ConfigError(
            f"encoder.layers must have the last layer for encoder.checkpoint '{checkpoint.name}' where onnx is not "
            "installed; pip install 'w2vb_ray[onnx]'"
        ) from err
    model: Any = onnx.load(checkpoint.path / ONNX, load_external_data=False)
    graph, needed, nodes = model.graph, set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    kept = [one for one in graph.output if one.name in outputs]
    weights = [one for one in graph.initializer if one.name in needed]
    for field, content in ((graph.node, nodes[::-1]), (graph.output, kept), (graph.initializer, weights)):
        del field[:]
        field.extend(content)
    return model.SerializeToString()
