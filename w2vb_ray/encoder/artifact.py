"""What an exported artifact says of itself: `artifact.json` in its folder. Knows no torch: the driver reads it too.

    format_version  1
    kind            one of `KINDS`
    files           names of the files that hold weights or the graph, all in the same folder
    smoothed        whether outliers of activations were moved into weights
    kept            names of matrices that stay floats, because int8 would cost too much of the accuracy
    source          checkpoint, revision, weights_sha256, trained: what it was made from
    sample          uri, utterances, audio_s: the speech on which it was measured
    gate            measured, limits, accepted: how far its vectors are from those of fp32, and who let it pass
    versions        of the packages that made it

Beside it lie `config.json`, the feature extractor's settings and the attention head of the checkpoint, if it has one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast, get_args

from w2vb_ray.errors import CheckpointError

ARTIFACT = "artifact.json"
FORMAT_VERSION = 1
Kind = Literal["int8", "int8_weights", "fp16", "bf16", "onnx", "onnx_int8", "openvino", "openvino_int8"]
"""`int8`: matrices of bytes, multiplied by rows of bytes; `int8_weights`: the same bytes, made floats when loaded;
`fp16`, `bf16`: floats of half the size, in plain transformers' own layout; `onnx`, `openvino`: graphs for these
runtimes, of fp32 and of fp16 that is multiplied in fp32, or with matrices of bytes."""
KINDS: tuple[Kind, ...] = get_args(Kind)
QUANTIZED: tuple[Kind, ...] = ("int8", "int8_weights")
Runtime = Literal["torch", "onnxruntime", "openvino"]

ONNX = "model.onnx"
OPENVINO = "openvino_model.xml"


def input_names(model_type: str) -> tuple[str, ...]:
    """Of a graph of this type of model."""
    return ("input_features", "attention_mask") if model_type == "wav2vec2-bert" else ("input_values",)


def output_name(layer: int) -> str:
    """Of a hidden state, 0 to `num_layers`, in a graph."""
    return f"hidden_{layer:02d}"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What `artifact.json` says, as far as loading needs it.

    Args:
        kind: see `Kind`.
        files: names of the weights' files.
        trained: whether the checkpoint that it was made from was.
    """

    kind: Kind
    files: tuple[str, ...]
    trained: bool

    @property
    def quantized(self) -> bool:
        """Whether matrices are int8 with scales that this package's own layers take."""
        return self.kind in QUANTIZED

    @property
    def runtime(self) -> Runtime:
        """What runs it."""
        match self.kind:
            case "onnx" | "onnx_int8":
                return "onnxruntime"
            case "openvino" | "openvino_int8":
                return "openvino"
            case _:
                return "torch"


def read_artifact(content: Mapping[str, Any], name: str) -> Artifact:
    """Checks the contents of `artifact.json`.

    Args:
        content: the object in the file.
        name: what the user wrote for the checkpoint.

    Raises:
        CheckpointError: another version, an unknown kind, or a file name that leads elsewhere.
    """
    kind, files, source = content.get("kind"), content.get("files"), content.get("source")
    if content.get("format_version") != FORMAT_VERSION or kind not in KINDS:
        raise CheckpointError(
            f"encoder.checkpoint must be an artifact of format {FORMAT_VERSION} and of a kind out of "
            f"{', '.join(KINDS)}, but {ARTIFACT} of '{name}' says format {content.get('format_version')!r}, kind "
            f"{kind!r}; export it again, or update w2vb_ray"
        )
    trained = cast("dict[str, Any]", source).get("trained") if isinstance(source, dict) else None
    if not _are_names(files) or not isinstance(trained, bool):
        raise CheckpointError(
            f"{ARTIFACT} of '{name}' must name its weights in `files` and its origin in `source`, but says "
            f"{files!r} and {source!r}; export it again"
        )
    return Artifact(kind, tuple(files), trained)


def _are_names(files: Any) -> TypeGuard[list[str]]:
    """Whether these are file names of one folder."""
    if not isinstance(files, list) or not files:
        return False
    return all(
        isinstance(one, str) and one not in ("", "..") and Path(one).name == one for one in cast("list[Any]", files)
    )
