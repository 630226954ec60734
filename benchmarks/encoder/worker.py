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
        engine: what it runs, if anything.
        device: where the engine is.
        load_s: seconds that loading it took.
    """

    def __init__(self, engine: Engine | None, device: torch.device, load_s: float = 0.0) -> None:
        self._engine, self._device, self._load_s = engine, device, load_s
        self._inputs: dict[str, list[Any]] = {}
        self._threads, self._learnt = 1, set[str]()

    def run(
        self, workload: str, lengths: list[int], variant: str, threads: int, *, warm_up: bool, save: str | None
    ) -> dict[str, float]:
        """Encode a workload once.

        Args:
            workload: its file.
            lengths: frames of its utterances.
            variant: of the engine.
            threads: of the engine.
            warm_up: encode all of it once before (otherwise a second of it, unless the engine learns lengths).
            save: write pooled vectors and some frames to this file.

        Returns:
            CPU and wall seconds, memory, the part of the frames that were padding, and how long loading took.
        """
        engine = self._engine
        assert engine is not None
        engine.set_threads(threads)
        if threads != self._threads:
            self._threads, self._learnt = threads, set()
        if workload not in self._inputs:
            self._inputs = {workload: engine.load(Path(workload))}  # one at a time: they count as memory
        inputs = self._inputs[workload]
        if warm_up or (engine.learns_lengths and workload not in self._learnt):
            engine.run(variant, inputs, lengths, Collected(len(lengths), 0))
            self._learnt.add(workload)
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


def make_engine(
    *, kind: str, model: str, layers: int, precision: str, device: torch.device, cache: str
) -> Engine | None:
    """An engine with one thread.

    Args:
        kind: `transformers`, `packed`, `waveforms`, `onnxruntime`, `openvino`, `loaded-NAME`, or `bare`: none.
        model: a key of `SIZES`.
        layers: conformer layers.
        precision: `fp32`, `bf16` or `fp16`.
        device: of the engine.
        cache: folder of exported models; what is loaded is `MODEL/NAME` there.

    Raises:
        ImportError: a package is missing.
    """
    torch.set_num_threads(1)
    size = SIZES[model]
    match kind:
        case "transformers":
            return TransformersEngine(size, layers, precision, device)
        case "packed" | "waveforms":
            return make_packed(size, layers, precision, device, waveforms=kind == "waveforms")
        case "onnxruntime" | "openvino":
            from benchmarks.encoder.exported import make_exported  # may be missing

            return make_exported(kind, size, layers, Path(cache) / f"{model}-{layers}")
        case _ if kind.startswith(LOADED):
            return make_loaded(Path(cache) / model / kind.removeprefix(LOADED), device)
    return None


def main() -> None:
    """Load, say so, answer until the commands end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the answers

    def answer(content: object) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    settings = json.loads(sys.argv[1])
    settings["device"] = device = torch.device(settings["device"])
    started = time.perf_counter()
    try:
        engine = make_engine(**settings)
    except ImportError as err:
        answer({"missing": str(err)})
        return
    worker = Worker(engine, device, time.perf_counter() - started)
    answer({"ready": True})
    with torch.inference_mode():
        for line in sys.stdin:
            command = json.loads(line)
            answer(getattr(worker, command.pop("do"))(**command))


if __name__ == "__main__":
    main()
