"""How fast is a training step, beside transformers' own pretraining class of the same size?

`python -m benchmarks.pretrain [--sizes tiny,base] [--seconds 6] [--utterances 4] [--repetitions 5] [--json FILE]
[--corpus MANIFEST [--updates 240]]`

Forward and backward of one micro-batch on one thread, CPU time, rows in turns, medians. transformers has a contrastive
loss and diversity for waveforms (`Wav2Vec2ForPreTraining`), and no class for Wav2Vec2-BERT. Ours has masked prediction
too; one row has it on transformers' own encoder, whose attention is the difference. The optimiser's step is left out of
all rows. Memory is the peak of the first step above the model.

With a corpus the job trains the smallest preset on it, the one that takes its audio fastest, and its log says what
share of the time it waited for audio.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from benchmarks import machine
from benchmarks.encoder.memory import PeakMemory
from w2vb_ray.audio.features import SAMPLING_RATE_HZ, num_waveform_frames
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.pretrain.model import PretrainingModel, make_encoder
from w2vb_ray.pretrain.update import MicroBatch, Objective

SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 144, "num_layers": 4, "num_heads": 4, "intermediate_size": 576, "conv_dim": 64,
        "contrastive_layers": 2,
    },
    "base": {
        "hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3_072, "conv_dim": 512,
        "contrastive_layers": 4,
    },
}  # fmt: skip
BASELINE = "transformers, waveforms"
UNBLOCKED = "ours, filterbanks, transformers' attention"
_PACKAGES = ("torch", "transformers", "numpy")
_PARTS = 6  # of the job, each a line of its log


def main() -> None:
    """Measure, show, save."""
    options = _parse()
    torch.set_num_threads(1)
    about = machine.describe(_PACKAGES)
    print(machine.one_line(about))
    rows = [row for size in options.sizes for row in _measure(size, options)]
    for row in rows:
        print(
            f"{row['size']:6}{row['engine']:44}{row['audio_s_per_cpu_s']:8.2f} audio-s per CPU-s{row['ratio']:7.2f} "
            f"times transformers{row['parameters'] / 1e6:9.1f} M parameters{row['peak_memory_mib']:9.0f} MiB"
        )
    job = _job(options.corpus, options.updates) if options.corpus else None
    if job:
        print(
            f"the job, conf/pretrain/tiny.yaml: {job['audio_s_per_s']:.1f} audio-s per s, waiting for audio "
            f"{job['wait_share']:.1%} of the time (medians of {job['num_lines']} parts of {job['updates']} updates)"
        )
    if options.json:
        result = {"machine": about, "rows": rows, "job": job}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _measure(size: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    num_samples = round(options.seconds * SAMPLING_RATE_HZ)
    waveforms = torch.from_numpy(
        np.random.default_rng(0).normal(size=(options.utterances, num_samples)).astype(np.float32)
    )
    engines = {
        BASELINE: _transformers(size, waveforms),
        "ours, waveforms": _ours(size, "wav2vec2", waveforms),
        UNBLOCKED: _ours(size, "wav2vec2-bert", waveforms, blocked=False),
        "ours, filterbanks": _ours(size, "wav2vec2-bert", waveforms),
    }
    peaks: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for repetition in range(options.repetitions + 1):
        for name, (step, _) in engines.items():
            memory, started = PeakMemory(), time.process_time()
            step()
            peaks.setdefault(name, memory.read()[1])
            if repetition:  # the first warms up
                seconds[name].append(time.process_time() - started)
    speeds = {name: options.utterances * options.seconds / statistics.median(some) for name, some in seconds.items()}
    return [
        {
            "size": size,
            "engine": name,
            "audio_s_per_cpu_s": speed,
            "ratio": speed / speeds[BASELINE],
            "parameters": engines[name][1],
            "peak_memory_mib": peaks[name],
        }
        for name, speed in speeds.items()
    ]


def _ours(
    size: str, model_type: str, waveforms: torch.Tensor, *, blocked: bool = True
) -> tuple[Callable[[], object], int]:
    config = PretrainConfig.model_validate(
        {"pretrain": {"uri": "-"}, "source": {"uri": "-"}, "model": {**SIZES[size], "type": model_type}}
    )
    encoder = make_encoder(config.model, None, config.masking.span)
    model = PretrainingModel(encoder if blocked else AutoModel.from_config(encoder.config), config)
    objective = Objective(model, config, contextlib.nullcontext)
    num_frames = num_waveform_frames(waveforms.shape[1])
    inputs = waveforms if model_type == "wav2vec2" else torch.randn(len(waveforms), num_frames, 160)
    batch = MicroBatch(list(range(len(inputs))), inputs, [inputs.shape[1]] * len(inputs), [num_frames] * len(inputs))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        objective.accumulate([batch], 0, lambda tensor: tensor)

    return step, sum(one.numel() for one in model.parameters())


def _transformers(size: str, waveforms: torch.Tensor) -> tuple[Callable[[], object], int]:
    sizes = SIZES[size]
    config = Wav2Vec2Config(
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        intermediate_size=sizes["intermediate_size"],
        conv_dim=[sizes["conv_dim"]] * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        layerdrop=0.0,
        num_negatives=100,
    )
    model: Any = Wav2Vec2ForPreTraining(config).train()
    shape = (len(waveforms), num_waveform_frames(waveforms.shape[1]))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        mask = _compute_mask_indices(shape, 0.65, 10, min_masks=2)
        negatives = _sample_negative_indices(shape, config.num_negatives, mask)
        found = model(
            waveforms, mask_time_indices=torch.from_numpy(mask), sampled_negative_indices=torch.from_numpy(negatives)
        )
        found.loss.backward()

    return step, sum(one.numel() for one in model.parameters())


def _job(corpus: Path, num_updates: int) -> dict[str, Any]:
    """What the log says of a training on local Ray; its first part, when everything starts, is left out."""
    updates = max(1, num_updates // _PARTS)
    with tempfile.TemporaryDirectory(prefix="w2vb-benchmark-") as folder:
        settings = {
            "pretrain.uri": f"{folder}/run",
            "pretrain.num_updates": num_updates,
            "pretrain.log_updates": updates,
            "source.uri": corpus,
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "jobs.pretrain", "conf/pretrain/tiny.yaml", *overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the job ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        lines = [json.loads(line) for line in Path(folder, "run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    medians = {key: statistics.median(line[key] for line in lines[1:]) for key in ("audio_s_per_s", "wait_share")}
    return {**medians, "updates": updates, "num_lines": len(lines) - 1}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=list(SIZES), help="which (tiny,base)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of an utterance (6)")
    parser.add_argument("--utterances", type=int, default=4, help="of the micro-batch (4)")
    parser.add_argument("--repetitions", type=int, default=5, help="of every row (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--corpus", type=Path, metavar="MANIFEST", help="what the job trains on (no job)")
    parser.add_argument("--updates", type=int, default=240, help="of the job (240)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
