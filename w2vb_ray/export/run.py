"""One run of the `export` job: measure the checkpoint, make the artifact, measure it, let it pass or not."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from w2vb_ray.audio.features import SAMPLING_RATE_HZ
from w2vb_ray.config.export import ExportConfig
from w2vb_ray.config.sections import EncoderSection, PoolingSection
from w2vb_ray.encoder import Checkpoint, load_encoder, resolve_checkpoint
from w2vb_ray.encoder.artifact import QUANTIZED
from w2vb_ray.errors import ConfigError
from w2vb_ray.export import gate, sensitivity
from w2vb_ray.export.sample import read_sample
from w2vb_ray.export.write import check_vacant, fp32_bytes, publish, write_description, write_weights
from w2vb_ray.runtime.progress import stage


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of an export.

    Args:
        measured: the artifact beside its checkpoint in fp32.
        failed: names of what is below its limit.
        kept: matrices that stayed floats.
        written: whether the artifact stands at `export.uri`.
    """

    measured: gate.Measured
    failed: list[str]
    kept: list[str]
    written: bool


def export(config: ExportConfig, console: Console) -> Exported:
    """Make an artifact of `encoder.checkpoint`, measure it on the source, and write it if it is good enough.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        SourceError: there is no speech to measure on.
        ConfigError: a kind that is not for this model, or a place that cannot be written to.
    """
    section = config.export
    check_vacant(section.uri, section.storage)
    with stage(console, "reading the checkpoint"):
        checkpoint = resolve_checkpoint(config.encoder)
    if len(config.encoder.layers) != 1:
        raise ConfigError(
            f"encoder.layers must name the one hidden state on which the artifact is measured, but is "
            f"{config.encoder.layers}; the artifact itself has all of them"
        )
    if checkpoint.artifact is not None:
        raise ConfigError(
            f"encoder.checkpoint must be a checkpoint to export, but '{checkpoint.name}' is an artifact already "
            f"({checkpoint.artifact.kind}); give the one that it was made from"
        )
    with stage(console, "reading the sample"):
        waveforms = read_sample(config)
    with stage(console, f"encoding {_seconds(waveforms):.0f} s with the checkpoint in fp32"):
        reference = _encode(config, config.encoder.model_copy(update={"precision": "fp32"}), waveforms)
    with tempfile.TemporaryDirectory(prefix="w2vb-export-") as name:
        kept: list[str] = []
        found = _attempt(config, checkpoint, reference, waveforms, kept, Path(name) / "first", console)
        folder = Path(name) / "first"
        limits = gate.limits(config.gate)
        failed = gate.failures(found, limits)
        if failed and section.kind in QUANTIZED and section.max_kept > 0:
            with stage(console, "looking for the matrices that int8 costs most"):
                kept = sensitivity.costliest(checkpoint, waveforms, section.max_kept)
            if kept:
                folder = Path(name) / "second"
                found = _attempt(config, checkpoint, reference, waveforms, kept, folder, console)
                failed = gate.failures(found, limits)
        written = section.accept or not failed
        if written:
            accepted = "by its limits" if not failed else f"by export.accept, in spite of {', '.join(failed)}"
            sample = {
                "uri": config.source.uri,
                "utterances": len(waveforms),
                "audio_s": round(_seconds(waveforms), 2),
            }
            description = {"measured": asdict(found), "limits": limits, "accepted": accepted}
            write_description(folder, {"sample": sample, "gate": description})
            with stage(console, "writing the artifact"):
                publish(folder, section.uri, section.storage)
    return Exported(found, failed, kept, written)


def table(config: ExportConfig, exported: Exported) -> Table:
    """One row per figure."""
    shown = Table()
    shown.add_column("measured against fp32")
    for heading in (config.export.kind, "limit", "result"):
        shown.add_column(heading, justify="right")
    limits = gate.limits(config.gate)
    for name, value in asdict(exported.measured).items():
        limit = limits.get(name)
        result = "" if limit is None else "BELOW" if name in exported.failed else "ok"
        digits = 2 if name in ("speed_ratio", "size_ratio") else 5
        shown.add_row(_TITLES[name], f"{value:.{digits}f}", "" if limit is None else f">= {limit:g}", result)
    return shown


def closing_lines(config: ExportConfig, exported: Exported) -> list[str]:
    """What the table has no room for; the last line says where the artifact is, or why there is none."""
    lines: list[str] = []
    if exported.kept:
        lines.append(
            f"{len(exported.kept)} matrices stay fp16, where int8 cost most: {', '.join(exported.kept[:3])}, …"
        )
    if not exported.failed:
        return [*lines, f"written to {config.export.uri}"]
    names = ", ".join(_TITLES[name] for name in exported.failed)
    if exported.written:
        return [*lines, f"written to {config.export.uri} by export.accept, in spite of: {names}"]
    return [
        *lines,
        f"not written: {names}. More matrices as floats may help (export.max_kept), or another export.kind; "
        "export.accept=true writes it as it is",
    ]


_TITLES = {
    "min_pooled_cosine": "cosine of an utterance's mean, least",
    "mean_pooled_cosine": "cosine of an utterance's mean, on average",
    "min_frame_cosine": "cosine of a frame, least",
    "mean_frame_cosine": "cosine of a frame, on average",
    "recall": f"neighbours found of the nearest {gate.NEIGHBOURS}",
    "speed_ratio": "speed, times that of fp32",
    "size_ratio": "size, of that of fp32",
}


def _attempt(
    config: ExportConfig,
    checkpoint: Checkpoint,
    reference: gate.Encoded,
    waveforms: Sequence[np.ndarray],
    kept: Sequence[str],
    folder: Path,
    console: Console,
) -> gate.Measured:
    """Make an artifact in `folder` and measure it."""
    folder.mkdir()
    with stage(console, f"making {config.export.kind}"):
        write_weights(checkpoint, config.export.kind, kept, folder)
    encoder = config.encoder.model_copy(update={"checkpoint": str(folder), "precision": "auto", "storage": {}})
    with stage(console, "encoding the sample with it"):
        found = _encode(config, encoder, waveforms)
    stored = sum(file.stat().st_size for file in resolve_checkpoint(encoder).weights)
    return gate.compare(reference, found, stored / fp32_bytes(checkpoint))


def _encode(config: ExportConfig, encoder: EncoderSection, waveforms: Sequence[np.ndarray]) -> gate.Encoded:
    loaded = load_encoder(encoder, PoolingSection(), config.batching, config.audio)
    return gate.encode_sample(loaded, waveforms)


def _seconds(waveforms: Sequence[np.ndarray]) -> float:
    return sum(map(len, waveforms)) / SAMPLING_RATE_HZ
