"""OpenVINO under `GraphForward`, on CPUs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from w2vb_ray.encoder.artifact import OPENVINO, output_name
from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.graph_forward import Run, missing_runtime, unusable_graph
from w2vb_ray.errors import ConfigError


def open_openvino(checkpoint: Checkpoint, layers: Sequence[int], device: torch.device) -> Run:
    """The compiled graph of an artifact, on torch's number of threads.

    Args:
        checkpoint: an artifact of kind `openvino` or `openvino_int8`.
        layers: hidden states to give; what stands behind the last of them is not computed.
        device: where it runs.

    Raises:
        ConfigError: OpenVINO is not installed, or the device is none of its own.
        CheckpointError: the files are no graph that it can run.
    """
    if device.type != "cpu":
        raise ConfigError(
            f"encoder.device must be cpu for an openvino artifact, but is {device.type} for encoder.checkpoint "
            f"'{checkpoint.name}'; set encoder.device=cpu, or export another kind"
        )
    try:
        import openvino

        make_model: Any = openvino.Model  # its types are those of two modules
    except ImportError as err:
        raise missing_runtime(checkpoint, "OpenVINO", "openvino", err) from err
    names = [output_name(layer) for layer in layers]
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # bf16, its default where the processor has AMX, is another precision
    }
    try:
        core: Any = openvino.Core()
        whole = core.read_model(checkpoint.path / OPENVINO)
        part = make_model([whole.output(name) for name in names], whole.get_parameters(), "kept")
        compiled = core.compile_model(part, "CPU", settings)
    except RuntimeError as err:
        raise unusable_graph(checkpoint, f"OpenVINO {openvino.__version__}", err) from err

    def run(feed: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        found = compiled(dict(feed))
        return [found[name].copy() for name in names]  # the next call writes to the same memory

    return run
