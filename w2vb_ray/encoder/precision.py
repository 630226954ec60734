"""Which precision `encoder.precision` means for a checkpoint on a device. Knows no torch: the driver asks too."""

from w2vb_ray.encoder.artifact import Kind
from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.errors import ConfigError

DEVICES = ("cpu", "cuda")

# What a graph computes in; the first is `auto`.
_OF_GRAPHS: dict[Kind, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16"),  # fp16 by TensorRT
    "onnx_int8": ("int8",),
    "openvino": ("fp32",),
    "openvino_int8": ("int8",),
}


def resolve_precision(wanted: str, checkpoint: Checkpoint, device: str) -> str:
    """What is multiplied: `fp32`, `bf16`, `fp16` or `int8`.

    `auto` is int8 for an int8 artifact on a CPU, else bf16 on CUDA and fp32 on a CPU (bf16 is slower than fp32 there
    without AMX). Weights of an artifact become the floats of any other precision that is asked for. Graphs of other
    runtimes have a precision of their own.

    Args:
        wanted: `encoder.precision`.
        checkpoint: what is loaded.
        device: `cpu` or `cuda`.

    Raises:
        ConfigError: int8 is asked for, and this is no int8 artifact, or a graph has another precision.
    """
    kind = checkpoint.artifact.kind if checkpoint.artifact else None
    if kind in _OF_GRAPHS:
        return _of_graph(wanted, kind, checkpoint.name)
    match wanted:
        case "auto":
            return "bf16" if device == "cuda" else "int8" if kind == "int8" else "fp32"
        case "int8" if kind != "int8":
            found = f"an artifact of kind {kind}" if kind else "a checkpoint"
            raise ConfigError(
                f"encoder.precision int8 needs an artifact of kind int8 made by the export job, but encoder.checkpoint "
                f"'{checkpoint.name}' is {found}; choose auto, fp32, bf16 or fp16, or export it: "
                "python -m jobs.export conf/export/int8.yaml encoder.checkpoint=… export.uri=…"
            )
        case _:
            return wanted


def loaded_bytes(checkpoint: Checkpoint, wanted: str) -> int:
    """Memory of the weights at most, where `encoder.precision` is `wanted`."""
    stored = sum(file.stat().st_size for file in checkpoint.weights)
    match checkpoint.artifact.kind if checkpoint.artifact else None:
        case "fp16" | "bf16":
            return 2 * stored
        case "int8" if wanted in ("auto", "int8"):
            return stored
        case "int8" | "int8_weights":
            return 4 * stored
        case "onnx" | "onnx_int8" | "openvino_int8":
            return 2 * stored  # as they are stored, and as the processor wants them
        case "openvino":
            return 3 * stored
        case None:
            return stored


def _of_graph(wanted: str, kind: Kind, name: str) -> str:
    known = _OF_GRAPHS[kind]
    if wanted not in ("auto", *known):
        raise ConfigError(
            f"encoder.precision must be auto or {' or '.join(known)} for an artifact of kind {kind}, but is {wanted} "
            f"for encoder.checkpoint '{name}'; choose auto, or an artifact of another kind"
        )
    return known[0] if wanted == "auto" else wanted
