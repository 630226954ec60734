"""transformers' model exported to ONNX, run by onnxruntime or OpenVINO. Both are optional."""

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.encoder.engines import Collected
from benchmarks.encoder.models import SEED, Size, make_model
from benchmarks.encoder.workloads import load_features

_INPUT = "input_features"
_EXAMPLE_FRAMES = 100


class ExportedEngine:
    """One utterance at a time, without padding.

    Args:
        make: threads -> (1, T, 160) -> (1, T, D).
    """

    padded = False
    learns_lengths = True  # OpenVINO lays its weights out for each: up to 2.5 times as long

    def __init__(self, make: Callable[[int], Callable[[np.ndarray], np.ndarray]]) -> None:
        self._make, self._threads = make, 1
        self._call = make(1)

    def load(self, path: Path) -> list[np.ndarray]:
        """See `engines.Engine`."""
        return load_features(path)

    def batches(self, variant: str, lengths: Sequence[int]) -> list[list[int]]:
        """See `engines.Engine`."""
        return [[index] for index in range(len(lengths))]

    def run(self, variant: str, inputs: Sequence[np.ndarray], lengths: Sequence[int], into: Collected) -> None:
        """See `engines.Engine`."""
        for index, features in enumerate(inputs):
            hidden = torch.from_numpy(self._call(features[None]))
            into.add([index], hidden.mean(1), [hidden[0]])

    def set_threads(self, count: int) -> None:
        """See `engines.Engine`; a session's threads are fixed, so there is a new one."""
        if count != self._threads:
            del self._call
            self._call, self._threads = self._make(count), count


def make_exported(kind: str, size: Size, num_layers: int, folder: Path) -> ExportedEngine:
    """The model, exported unless `folder` holds it already.

    Args:
        kind: `onnxruntime` or `openvino`.
        size: of the model.
        num_layers: of the model.
        folder: of this model's files.

    Raises:
        ImportError: a package is missing.
    """
    return ExportedEngine((_openvino if kind == "openvino" else _onnxruntime)(_export(size, num_layers, folder)))


def _onnxruntime(path: Path) -> Callable[[int], Callable[[np.ndarray], np.ndarray]]:
    import onnxruntime

    def make(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda features: session.run(None, {_INPUT: features})[0]

    return make


def _openvino(path: Path) -> Callable[[int], Callable[[np.ndarray], np.ndarray]]:
    import openvino

    core: Any = openvino.Core()
    model = openvino.convert_model(path)

    def make(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        compiled = core.compile_model(model, "CPU", settings)
        return lambda features: compiled({_INPUT: features})[0]

    return make


class _LastHidden(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        return self._model(input_features=input_features).last_hidden_state


def _export(size: Size, num_layers: int, folder: Path) -> Path:
    """Any number of frames, one at a time, no mask, as nothing is padded. Who comes second waits for the first."""
    path = folder / f"seed{SEED}.onnx"
    if path.is_file():  # complete, and the folder may be read-only
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            _export_to(path, size, num_layers)
    return path


def _export_to(path: Path, size: Size, num_layers: int) -> None:
    import onnx  # noqa: F401 - the exporter needs both, and says so late
    import onnxscript  # noqa: F401

    model = make_model(size, num_layers)
    model.set_attn_implementation("sdpa")
    example = torch.zeros(1, _EXAMPLE_FRAMES, model.config.feature_projection_input_dim)
    partial = path.parent / f"partial-{os.getpid()}"
    partial.mkdir()
    with torch.no_grad():
        torch.onnx.export(
            _LastHidden(model).eval(),
            (example,),
            partial / path.name,
            input_names=[_INPUT],
            dynamic_shapes=({1: torch.export.Dim("frames", min=2, max=100_000)},),
            dynamo=True,
            external_data=True,
            verbose=False,
        )
    for file in sorted(partial.iterdir(), key=lambda file: file.suffix == ".onnx"):  # the model after its weights
        file.rename(path.parent / file.name)
    partial.rmdir()
