"""One engine in a process of its own, so that its memory is its own: commands come as JSON lines, and so do answers.

`python -m benchmarks.encoder.worker '{"kind": "packed", ...}'`, started by `pool.Pool`.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.encoder.engines import Collected, Engine, TransformersEngine, make_loaded, make_packed
from benchmarks.encoder.memory import PeakMemory
from benchmarks.encoder.models import SIZES
from benchmarks.encoder.peak import cpu_peak, cuda_peak

_KEPT = 32  # utterances whose frames are compared
_WARM_UP_FRAMES = 50
LOADED = "loaded-"


class Worker:
    """Answers commands.

    Args:
        kind: `transformers`, `packed`, `waveforms`, `onnxruntime`, `openvino`, `loaded-NAME`, or `bare`: no model.
        model: a key of `SIZES`.
        layers: conformer layers.
        precision: `fp32`, `bf16` or `fp16`.
        device: `cpu` or `cuda`.
        cache: folder of exported models; what is loaded is `MODEL/NAME` there.
    """

    def __init__(self, *, kind: str, model: str, layers: int, precision: str, device: str, cache: str) -> None:
        self._device = torch.device(device)
        torch.set_num_threads(1)
        self._inputs: dict[str, list[Any]] = {}
        started = time.perf_counter()
        self._engine: Engine | None = None
        size = SIZES[model]
        match kind:
            case "transformers":
                self._engine = TransformersEngine(size, layers, precision, self._device)
            case "packed" | "waveforms":
                self._engine = make_packed(size, layers, precision, self._device, waveforms=kind == "waveforms")
            case "onnxruntime" | "openvino":
                from benchmarks.encoder.exported import make_exported  # may be missing

                self._engine = make_exported(kind, size, layers, Path(cache) / f"{model}-{layers}")
            case _ if kind.startswith(LOADED):
                self._engine = make_loaded(Path(cache) / model / kind.removeprefix(LOADED), self._device)
        self._load_s = time.perf_counter() - started

    def run(
        self, workload: str, lengths: list[int], variant: str, threads: int, *, warm_up: bool, save: str | None
    ) -> dict[str, float]:
        """Encode a workload once.

        Args:
            workload: its file.
            lengths: frames of its utterances.
            variant: of the engine.
            threads: of the engine.
            warm_up: encode all of it once before (otherwise a second of it).
            save: write pooled vectors and some frames to this file.

        Returns:
            CPU and wall seconds, memory, the part of the frames that were padding, and how long loading took.
        """
        engine = self._engine
        assert engine is not None
        engine.set_threads(threads)
        if workload not in self._inputs:
            self._inputs = {workload: engine.load(Path(workload))}  # one at a time: they count as memory
        inputs = self._inputs[workload]
        if warm_up:
            engine.run(variant, inputs, lengths, Collected(len(lengths), 0))
        else:
            few = min(lengths[0], _WARM_UP_FRAMES)
            engine.run(variant, [inputs[0][:few]], [few], Collected(1, 0))
        memory = self._reset_memory()
        collected = Collected(len(lengths), _KEPT if save is not None else 0)
        started = time.process_time(), time.perf_counter()
        engine.run(variant, inputs, lengths, collected)
        pooled = collected.pooled()  # waits for the device
        cpu_s, wall_s = time.process_time() - started[0], time.perf_counter() - started[1]
        peak, above = self._peak_memory(memory)
        if save is not None:
            with Path(save).open("wb") as out:
                np.savez(out, pooled=pooled, frames=collected.frames())
        batches = engine.batches(variant, lengths)
        rows = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
        waste = 1 - sum(lengths) / rows if engine.padded else 0.0
        return {
            "cpu_s": cpu_s, "wall_s": wall_s, "peak_memory_mib": peak, "memory_above_model_mib": above,
            "padding_waste": waste, "load_s": self._load_s,
        }  # fmt: skip

    def peak(self, precision: str, budget_s: float) -> dict[str, float]:
        """See `peak`."""
        return cuda_peak() if self._device.type == "cuda" else cpu_peak(precision, budget_s)

    def features(self, workload: str, repetitions: int) -> dict[str, Any]:
        """See `filterbank`."""
        from benchmarks.encoder.filterbank import FeatureBench  # imports the extractor

        return FeatureBench(Path(workload)).measure(repetitions)

    def _reset_memory(self) -> PeakMemory | float:
        if self._device.type != "cuda":
            return PeakMemory()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())

    def _peak_memory(self, before: PeakMemory | float) -> tuple[float, float]:
        if isinstance(before, PeakMemory):
            return before.read()
        peak = torch.cuda.max_memory_allocated()
        return peak / 1024**2, (peak - before) / 1024**2


def main() -> None:
    """Load, say so, answer until the commands end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the answers

    def answer(content: object) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        worker = Worker(**json.loads(sys.argv[1]))
    except ImportError as err:
        answer({"missing": str(err)})
        return
    answer({"ready": True})
    with torch.inference_mode():
        for line in sys.stdin:
            command = json.loads(line)
            answer(getattr(worker, command.pop("do"))(**command))


if __name__ == "__main__":
    main()
