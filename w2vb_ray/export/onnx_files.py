"""A model as an ONNX file, its weights beside it: those of a 1024-d model in fp32 are more than one file may hold.

Inputs are `input_features` (B, T, 160) and `attention_mask` (B, T), or `input_values` (B, num_samples); outputs are
`hidden_00` to `hidden_NN`, (B, T, D). B and T are free. Padding stands last; waveforms of a batch have one length.
"""

from pathlib import Path
from typing import Any

import torch

from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.artifact import ONNX, input_names, output_name
from w2vb_ray.encoder.packed import why_not_packed
from w2vb_ray.export.graph import FeatureGraph, TransformersGraph
from w2vb_ray.export.optional_packages import quiet_packages, require

_WEIGHTS = f"{ONNX}.data"
_EXAMPLE = {
    "input_features": torch.zeros(2, 100, 160),
    "attention_mask": torch.ones(2, 100, dtype=torch.int64),
    "input_values": torch.zeros(2, 32_000),
}
_AXES = {"input_features": "frames", "attention_mask": "frames", "input_values": "samples"}


def write_onnx(model: Any, checkpoint: Checkpoint, folder: Path) -> list[str]:
    """Write the graph of a model, fp32.

    Args:
        model: of transformers, in evaluation mode.
        checkpoint: what it is made from.
        folder: where.

    Returns:
        Names of the files.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
    """
    require("onnx", "onnx", "onnxscript")
    names = input_names(checkpoint.model_type)
    is_ours = checkpoint.model_type == "wav2vec2-bert" and why_not_packed(model.config) is None
    graph = FeatureGraph(model) if is_ours else TransformersGraph(model)
    example = tuple(_EXAMPLE[name] for name in names)
    with quiet_packages(), torch.inference_mode():
        program: Any = torch.onnx.export(
            graph.eval(),
            example,
            input_names=names,
            output_names=[output_name(layer) for layer in range(checkpoint.num_layers + 1)],
            dynamic_shapes=[{0: "batch", 1: _AXES[name]} for name in names],
            dynamo=True,
            verbose=False,
        )
        program.save(folder / ONNX, external_data=True)
    return [ONNX, _WEIGHTS]


def quantize_onnx(source: Path, target: Path) -> list[str]:
    """Write the graph in one folder to another, its matrices as int8 with a scale per output.

    What they are multiplied with is rounded when it comes, with one scale for all of an input: in a batch, vectors
    depend on their company.

    Returns:
        Names of the files.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    require("onnx", "onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_packages():
        quantize_dynamic(
            source / ONNX,
            target / ONNX,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
    return [ONNX, _WEIGHTS]
