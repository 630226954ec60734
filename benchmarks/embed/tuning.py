"""Which settings of the encoder are fastest on this machine? In one process, variants taking turns.

`python -m benchmarks.embed.tuning [--corpus MANIFEST] [--minutes N] [--repetitions N] [--set skewed] [--only TEXT]`

Each line is audio seconds per CPU second and per wall second of one variant: micro-batch budget, order, the length at
which attention weighs as much as the rest, transformers' attention implementation, threads.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.audio import load_audio
from benchmarks.embed.__main__ import BASE_LAYERS, DEFAULT_CORPUS
from benchmarks.embed.sets import CorpusSet, dev_set, read_clips, skewed_set
from benchmarks.models import base_checkpoint
from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingSection
from w2vb_ray.encoder import Encoder, load_encoder


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the encoder.

    Args:
        name: what the table calls it.
        max_frames: micro-batch budget; 1 encodes one utterance at a time.
        attention_frames: as in `batching.attention_frames`.
        attention: transformers' implementation.
        threads: of torch; None is `--threads`.
        in_order: one call per 8 utterances in the order of the manifest, so that sorting cannot help.
    """

    name: str
    max_frames: int = 1_500
    attention_frames: int = 600
    attention: str = "sdpa"
    threads: int | None = None
    in_order: bool = False


VARIANTS = (
    Variant("max_frames 1500 (default)"),
    *(Variant(f"max_frames {frames}", max_frames=frames) for frames in (150, 300, 600, 3_000)),
    Variant("one by one", max_frames=1),
    Variant("8 in arrival order, padded", max_frames=10**6, attention_frames=10**6, in_order=True),
    *(Variant(f"attention_frames {frames}", attention_frames=frames) for frames in (200, 2_000, 100_000)),
    Variant("attention eager", attention="eager"),
    Variant("one by one, eager", max_frames=1, attention="eager"),
    Variant("1 thread, max_frames 1500", threads=1),
    Variant("1 thread, one by one", threads=1, max_frames=1),
)


def main() -> None:
    """Measure and show."""
    options = _parse()
    console = Console(soft_wrap=True)
    about = machine.describe()
    console.print(machine.one_line(about), highlight=False)
    variants = [variant for variant in VARIANTS if options.only in variant.name]
    with tempfile.TemporaryDirectory(prefix="w2vb-tuning-") as name:
        folder = Path(name)
        checkpoint = base_checkpoint(folder / "checkpoint", options.layers)
        make = {"dev": dev_set, "skewed": skewed_set}[options.set]
        corpus = make(read_clips(options.corpus), options.minutes, folder / options.set)
        waveforms = _waveforms(corpus)
        encoders = [_load(variant, checkpoint) for variant in variants]
        for encoder in encoders:
            encoder.encode(waveforms[:1])  # the first pass through a model is slower
        samples: list[list[tuple[float, float]]] = []
        for repetition in range(options.repetitions):
            pairs = zip(variants, encoders, strict=True)
            with console.status(f"repetition {repetition + 1} of {options.repetitions}"):
                samples.append([_measure(v, encoder, waveforms, v.threads or options.threads) for v, encoder in pairs])
            console.print(f"CPU s: {' '.join(f'{cpu_s:.2f}' for cpu_s, _ in samples[-1])}", highlight=False)
    audio_s = sum(len(waveform) for waveform in waveforms) / 16_000
    rows = [
        {
            "variant": variant.name,
            "audio_per_cpu_s": audio_s / median(sample[i][0] for sample in samples),
            "audio_per_wall_s": audio_s / median(sample[i][1] for sample in samples),
            "padding_waste": encoders[i].stats.waste,
        }
        for i, variant in enumerate(variants)
    ]
    console.print(f"{corpus.name}: {len(waveforms)} utterances, {audio_s:.0f} s, {options.layers} layers")
    console.print(_table(rows))
    if options.json:
        result: dict[str, Any] = {"machine": about, "set": corpus.facts(), "layers": options.layers, "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _waveforms(corpus: CorpusSet) -> list[np.ndarray]:
    loaded = [load_audio(str(clip.path)) for clip in corpus.clips]
    return [(waveform.clip(-1, 1) * 32_767).astype(np.int16) for waveform in loaded]


def _load(variant: Variant, checkpoint: Path) -> Encoder:
    encoder = load_encoder(
        EncoderSection(checkpoint=str(checkpoint), device="cpu"),
        PoolingSection(),
        BatchingSection(max_frames=variant.max_frames, attention_frames=variant.attention_frames),
        AudioSection(),
    )
    model: Any = encoder._forward._model  # type: ignore[attr-defined]  # no setting of ours: only a benchmark turns it
    model.set_attn_implementation(variant.attention)
    return encoder


def _measure(variant: Variant, encoder: Encoder, waveforms: Sequence[np.ndarray], threads: int) -> tuple[float, float]:
    """(CPU seconds, wall seconds)."""
    torch.set_num_threads(threads)
    step = 8 if variant.in_order else len(waveforms)
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for start in range(0, len(waveforms), step):
        encoder.encode(waveforms[start : start + step])
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime, wall_s


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="audio seconds per second (medians)")
    table.add_column("variant")
    for name in ("per CPU s", "per wall s", "padding", "CPU, to the first"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["variant"],
            f"{row['audio_per_cpu_s']:.2f}",
            f"{row['audio_per_wall_s']:.2f}",
            f"{row['padding_waste']:.1%}",
            f"{row['audio_per_cpu_s'] / rows[0]['audio_per_cpu_s']:.2f}",
        )
    return table


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embed.tuning", description=__doc__)
    parser.add_argument("--corpus", type=Path, metavar="MANIFEST", default=DEFAULT_CORPUS)
    parser.add_argument("--set", choices=("dev", "skewed"), default="skewed")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--layers", type=int, default=BASE_LAYERS, help="fewer are quicker; ratios hardly change")
    parser.add_argument("--only", default="", metavar="TEXT", help="variants whose name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
