"""From what the user wrote under `encoder.checkpoint` to a local folder with a config and safetensors.

Cheap and without torch: the driver calls it before any work, for the tables' fingerprint. Never reads
pickled weights (`.bin`, `.pt`), never runs code from a checkpoint.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from w2vb_ray.encoder.artifact import ARTIFACT, Artifact, read_artifact
from w2vb_ray.errors import CheckpointError

if TYPE_CHECKING:
    from w2vb_ray.config.sections import EncoderSection

WAVEFORM_MODEL_TYPES = ("wav2vec2", "wav2vec2-conformer", "hubert", "wavlm", "data2vec-audio")
MODEL_TYPES = ("wav2vec2-bert", *WAVEFORM_MODEL_TYPES)

EMBEDDED = Path(__file__).parent / "tiny"  # the model that comes with the package; README.md there is its card
ATTENTION_WEIGHTS = "attention_pooling.safetensors"  # beside the model's, and none of them: see `attention_head`

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that lies in a local folder.

    Args:
        path: the folder, loadable by plain transformers.
        name: what the user wrote.
        weights_sha256: hex digest over the contents of `weights`.
        config: `config.json`.
        num_layers: layers of the model.
        dimension: D of its hidden states.
        model_type: one of `MODEL_TYPES`.
        artifact: what the export job wrote of it; None for a checkpoint as transformers wrote it.
    """

    path: Path
    name: str
    weights_sha256: str
    config: dict[str, Any]
    num_layers: int
    dimension: int
    model_type: str
    artifact: Artifact | None = None

    @property
    def weights(self) -> list[Path]:
        """The files of the model's weights, in the order of their names."""
        return _weights(self.path, self.artifact)

    @property
    def untrained(self) -> bool:
        """True for random weights: `config.json` says `"w2vb_ray": {"trained": false}`."""
        if self.artifact is not None:
            return not self.artifact.trained
        return self.config.get("w2vb_ray", {}).get("trained") is False

    @property
    def preprocessor(self) -> dict[str, Any]:
        """The feature extractor's settings; empty when the checkpoint has none."""
        for name, key in (("preprocessor_config.json", None), ("processor_config.json", "feature_extractor")):
            if (self.path / name).is_file():
                settings = read_json(self.path / name, self.name)
                return settings if key is None else settings.get(key, {})
        return {}


def resolve_checkpoint(encoder: "EncoderSection") -> Checkpoint:
    """Finds `encoder.checkpoint` and checks that it is one of ours, downloading it to the cache where needed.

    A local folder, a URI (`s3://…`, with `encoder.storage`), a hub id (with `encoder.revision`), or `embedded`.

    Raises:
        CheckpointError: it is missing, cannot be fetched, is not a supported model, holds no safetensors, or does not
            have the layers of `encoder.layers`.
    """
    name = encoder.checkpoint
    checkpoint = _describe(_locate(encoder), name)
    resolve_layers(encoder.layers, checkpoint.num_layers)
    return checkpoint


def resolve_layers(layers: Sequence[int], num_layers: int) -> list[int]:
    """Non-negative hidden state indices, order kept: `[-1]` of a 24-layer model is `[24]`, its output.

    Raises:
        CheckpointError: none, one out of range, or the same one twice.
    """
    rule = f"encoder.layers must name distinct hidden states from {-num_layers - 1} to {num_layers}"
    resolved = [layer + num_layers + 1 if layer < 0 else layer for layer in layers]
    if not resolved or len(set(resolved)) < len(resolved) or not all(0 <= layer <= num_layers for layer in resolved):
        raise CheckpointError(
            f"{rule} for this {num_layers}-layer checkpoint, but is {list(layers)}; change encoder.layers"
        )
    return resolved


def _locate(encoder: "EncoderSection") -> Path:
    from w2vb_ray.encoder import fetch

    name = encoder.checkpoint
    folder = Path(name).expanduser()
    if name == "embedded":
        return EMBEDDED
    if "://" in name:
        return fetch.fetch_uri(name, dict(encoder.storage))
    if folder.is_dir():
        return folder
    if name.count("/") > 1 or name.startswith(("/", ".", "~")) or folder.exists():
        raise CheckpointError(
            f"encoder.checkpoint must be a folder, a URI, a hub id or 'embedded', but '{name}' is no folder; "
            "check the path (relative paths start at the working directory)"
        )
    return fetch.fetch_hub(name, encoder.revision)


def _describe(path: Path, name: str) -> Checkpoint:
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"encoder.checkpoint must be a transformers checkpoint, but '{name}' has no config.json; "
            "point it at the folder that save_pretrained wrote"
        )
    config = read_json(path / "config.json", name)
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"encoder.checkpoint must have a model_type of {', '.join(MODEL_TYPES)}, but '{name}' has {model_type!r}; "
            "choose another checkpoint"
        )
    _check_frame_rate(config, name)
    has_artifact = (path / ARTIFACT).is_file()
    artifact = read_artifact(read_json(path / ARTIFACT, name), name) if has_artifact else None
    return Checkpoint(
        path=path,
        name=name,
        weights_sha256=_hash_weights(path, artifact, name),
        config=config,
        num_layers=_size(config, "num_hidden_layers", name),
        dimension=_size(config, "hidden_size", name),
        model_type=model_type,
        artifact=artifact,
    )


def _check_frame_rate(config: dict[str, Any], name: str) -> None:
    """The tables promise 20 ms frames of 25 ms; transformers leaves out settings that are its defaults."""
    if config["model_type"] == "wav2vec2-bert":
        if config.get("feature_projection_input_dim", 160) != 160:
            raise CheckpointError(
                "encoder.checkpoint must take 160 features per frame (80 mel bins stacked by 2), but "
                f"'{name}' takes {config['feature_projection_input_dim']}; choose another checkpoint"
            )
        return
    kernels = config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
    strides = config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))
    hop, window = 1, 1
    for kernel, stride in zip(kernels, strides, strict=False):
        hop, window = hop * stride, window + (kernel - 1) * hop
    if (hop, window) != (320, 400):
        raise CheckpointError(
            "encoder.checkpoint must make one frame of 400 samples every 320 (20 ms at 16 kHz), but the convolutions "
            f"of '{name}' make one of {window} every {hop}; choose another checkpoint"
        )


def _weights(path: Path, artifact: Artifact | None) -> list[Path]:
    if artifact is not None:
        return [path / name for name in sorted(artifact.files)]
    return sorted(file for file in path.glob("*.safetensors") if file.name != ATTENTION_WEIGHTS)


def _hash_weights(path: Path, artifact: Artifact | None, name: str) -> str:
    files = _weights(path, artifact)
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"encoder.checkpoint must hold the files that {ARTIFACT} names, but '{name}' lacks {', '.join(missing)}; "
            "fetch or export it again"
        )
    if not files:
        pickled = sorted(file.name for pattern in _PICKLED for file in path.glob(pattern))
        found = f"only {', '.join(pickled[:3])}" if pickled else "no weights"
        raise CheckpointError(
            f"encoder.checkpoint must hold *.safetensors, but '{name}' has {found}; convert it with "
            "transformers (model.save_pretrained writes safetensors)"
        )
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(2**22):
                digest.update(chunk)
    return digest.hexdigest()


def _size(config: dict[str, Any], key: str, name: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(
            f"encoder.checkpoint must state {key} in its config.json, but '{name}' has {value!r}; "
            "save it again with transformers"
        )
    return value


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint.

    Args:
        path: the file.
        name: what the user wrote for the checkpoint.

    Raises:
        CheckpointError: it holds anything else.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise CheckpointError(
            f"encoder.checkpoint must have a readable {path.name}, but that of '{name}' is not JSON ({err}); "
            "fetch it again"
        ) from err
    if not isinstance(content, dict):
        raise CheckpointError(
            f"encoder.checkpoint must have an object in {path.name}, but '{name}' has a {type(content).__name__}; "
            "fetch it again"
        )
    return cast("dict[str, Any]", content)
