"""A checkpoint with the weights that every engine of the benchmark has, and its artifacts."""

from pathlib import Path

from transformers import SeamlessM4TFeatureExtractor

from benchmarks.encoder.models import Size, make_model
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.artifact import KINDS
from w2vb_ray.encoder.quiet import quiet_transformers
from w2vb_ray.export.write import write_weights

CHECKPOINT = "checkpoint"


def make_checkpoint(size: Size, num_layers: int, folder: Path) -> None:
    """Write the model of `benchmarks.encoder` as transformers would."""
    model = make_model(size, num_layers)
    with quiet_transformers():
        model.save_pretrained(folder)
    SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2).save_pretrained(folder)


def make_artifact(kind: str, folder: Path) -> None:
    """Export the checkpoint that lies in `folder` into a folder beside it.

    Raises:
        ImportError, W2vbError: what this kind needs is not installed.
    """
    source = resolve_checkpoint(EncoderSection(checkpoint=str(folder / CHECKPOINT)))
    target = folder / kind
    target.mkdir()
    (known,) = (one for one in KINDS if one == kind)
    write_weights(source, known, target)


def weights_bytes(folder: Path) -> int:
    """Size of the weights of a checkpoint or an artifact."""
    return sum(file.stat().st_size for file in resolve_checkpoint(EncoderSection(checkpoint=str(folder))).weights)
