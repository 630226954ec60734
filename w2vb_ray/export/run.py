"""One run of the `export` job: measure the checkpoint, make the artifact, measure it, let it pass or not."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from w2vb_ray.audio.features import SAMPLING_RATE_HZ
from w2vb_ray.config.export import ExportConfig
from w2vb_ray.config.sections import EncoderSection, PoolingSection
from w2vb_ray.encoder import Checkpoint, Encoder, load_encoder, resolve_checkpoint
from w2vb_ray.encoder.artifact import QUANTIZED
from w2vb_ray.errors import ConfigError
from w2vb_ray.export import gate, sensitivity
from w2vb_ray.export.sample import read_sample
from w2vb_ray.export.write import check_vacant, fp32_bytes, publish, write_description, write_weights
from w2vb_ray.runtime.progress import stage

_NAMED = 3  # of the matrices that stay floats


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of an export.

    Args:
        measured: the artifact beside its checkpoint in fp32.
        failed: names of what is below its limit.
        kept: matrices that stayed floats.
        written: whether the artifact goes to `export.uri`.
    """

    measured: gate.Measured
    failed: Sequence[str]
    kept: Sequence[str]
    written: bool


def export(config: ExportConfig, console: Console) -> Exported:
    """Make an artifact of `encoder.checkpoint`, measure it on the source, and write it if it is good enough.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        SourceError: there is no speech to measure on.
        ConfigError: a kind that is not for this model, or a place that cannot be written to.
    """
    check_vacant(config.export.uri, config.export.storage)
    with stage(console, "reading the checkpoint"):
        checkpoint = _exportable(config)
    with stage(console, "reading the sample"):
        waveforms = read_sample(config)
    with stage(console, f"encoding {_seconds(waveforms):.0f} s with the checkpoint in fp32"):
        reference = _encode(config, config.encoder.model_copy(update={"precision": "fp32"}), waveforms)
    trial = _Trial(config, console, checkpoint, waveforms, reference)
    with tempfile.TemporaryDirectory(prefix="w2vb-export-") as name:
        folder = Path(name) / "first"
        found = trial.make(folder, kept=[])
        if found.failed and trial.may_keep:
            with stage(console, "looking for the matrices that int8 costs most"):
                kept = sensitivity.costliest(checkpoint, waveforms, config.export.max_kept)
            if kept:
                folder = Path(name) / "second"
                found = trial.make(folder, kept)
        if found.written:
            with stage(console, "writing the artifact"):
                write_description(folder, trial.describe(found))
                publish(folder, config.export.uri, config.export.storage)
    return found


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
        named = ", ".join(exported.kept[:_NAMED]) + (", …" if len(exported.kept) > _NAMED else "")
        lines.append(f"{len(exported.kept)} matrices stay fp16, where int8 cost most: {named}")
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


@dataclass(frozen=True, slots=True)
class _Trial:
    """What every attempt at an artifact shares."""

    config: ExportConfig
    console: Console
    checkpoint: Checkpoint
    waveforms: Sequence[np.ndarray]
    reference: gate.Encoded

    @property
    def may_keep(self) -> bool:
        """Whether some matrices may stay floats."""
        return self.config.export.kind in QUANTIZED and self.config.export.max_kept > 0

    def make(self, folder: Path, kept: Sequence[str]) -> Exported:
        """Make an artifact in a new folder and measure it."""
        folder.mkdir()
        with stage(self.console, f"making {self.config.export.kind}"):
            write_weights(self.checkpoint, self.config.export.kind, folder, kept=kept, calibration=self.waveforms)
        encoder = self.config.encoder.model_copy(
            update={"checkpoint": str(folder), "revision": None, "precision": "auto", "storage": {}}
        )
        with stage(self.console, "encoding the sample with it"):
            found = _encode(self.config, encoder, self.waveforms)
        stored = sum(file.stat().st_size for file in resolve_checkpoint(encoder).weights)
        measured = gate.compare(self.reference, found, stored / fp32_bytes(self.checkpoint))
        failed = gate.failures(measured, gate.limits(self.config.gate))
        return Exported(measured, failed, kept, written=self.config.export.accept or not failed)

    def describe(self, found: Exported) -> dict[str, Any]:
        """What `artifact.json` says of how it was measured and who let it pass."""
        accepted = f"by export.accept, in spite of {', '.join(found.failed)}" if found.failed else "by its limits"
        audio_s = round(_seconds(self.waveforms), 2)
        return {
            "sample": {"uri": self.config.source.uri, "utterances": len(self.waveforms), "audio_s": audio_s},
            "gate": {
                "measured": asdict(found.measured),
                "limits": gate.limits(self.config.gate),
                "accepted": accepted,
            },
        }


def _exportable(config: ExportConfig) -> Checkpoint:
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
    return checkpoint


def _encode(config: ExportConfig, encoder: EncoderSection, waveforms: Sequence[np.ndarray]) -> gate.Encoded:
    def load(num_threads: int | None) -> Encoder:
        return load_encoder(encoder, PoolingSection(), config.batching, config.audio, num_threads=num_threads)

    return gate.encode_sample(load, waveforms)


def _seconds(waveforms: Sequence[np.ndarray]) -> float:
    return sum(map(len, waveforms)) / SAMPLING_RATE_HZ
