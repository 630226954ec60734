"""The encoder on torch: features, micro-batches, pooling and windows around one forward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from w2vb_ray.audio.features import WINDOW_SAMPLES
from w2vb_ray.encoder.base import Embeddings, PaddingStats
from w2vb_ray.encoder.batching import plan_equal_batches, plan_micro_batches, plan_packed_batches
from w2vb_ray.encoder.forward import Forward
from w2vb_ray.encoder.frontend import Frontend
from w2vb_ray.encoder.mixture import MIXTURE, MixedForward
from w2vb_ray.encoder.pooling import Partial, Pooling, unit_length, window_statistics
from w2vb_ray.encoder.windows import FRAMES_PER_S, Window, split_windows
from w2vb_ray.errors import ConfigError

_CPU_OUT_OF_MEMORY = ("not enough memory", "DefaultCPUAllocator", "Failed to allocate memory")  # torch, onnxruntime


@dataclass(frozen=True, slots=True)
class Settings:
    """What the encoder was asked for, resolved.

    Args:
        num_layers: layers of the model.
        dimension: D.
        layers: kept hidden states, non-negative.
        layer_weights: of each in their mixture; None keeps them apart.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        device: `cpu` or `cuda`.
        poolings: how frames become one vector, several ways.
        normalise: whether each vector is divided by its L2 norm.
        max_frames: frame budget of one micro-batch.
        attention_frames: length at which attention costs as much as the rest of the model.
        longest_window: in frames; None encodes in one piece.
        context: frames of context on each side of a window.
    """

    num_layers: int
    dimension: int
    layers: list[int]
    layer_weights: list[float] | None
    precision: str
    device: str
    poolings: list[Pooling]
    normalise: bool
    max_frames: int
    attention_frames: int
    longest_window: int | None
    context: int


class _Job(NamedTuple):
    """One window of one utterance of the call, on its way through the model."""

    utterance: int
    window: Window
    input: Tensor


class _Output(NamedTuple):
    """What a micro-batch leaves of each kept layer (or of `MIXTURE`), still on the model's device.

    Args:
        cores: rows of each window that count.
        statistics: (B, K, C) of each layer and pooling, see `pooling.window_statistics`.
        frames: (sum of the cores, D), when frames are kept.
    """

    cores: list[slice]
    statistics: dict[tuple[int, Pooling], Tensor]
    frames: dict[int, Tensor]


class TorchEncoder:
    """An `Encoder` around a `Forward`; see `encoder.base.Encoder` for the contract.

    The frame budget shrinks for good when memory runs out: what did not fit once will not fit the next time.
    """

    def __init__(self, forward: Forward, frontend: Frontend, settings: Settings) -> None:
        self._forward, self._frontend, self._settings = forward, frontend, settings
        self._outputs = settings.layers
        if settings.layer_weights is not None:
            weights = dict(zip(settings.layers, settings.layer_weights, strict=True))
            self._forward, self._outputs = MixedForward(forward, weights), [MIXTURE]
        self._max_frames = settings.max_frames
        self.num_layers = settings.num_layers
        self.dimension = settings.dimension
        self.layers = settings.layers
        self.precision = settings.precision
        self.device = settings.device
        self.stats = PaddingStats()

    @torch.inference_mode()
    def encode(
        self,
        waveforms: Sequence[np.ndarray],
        *,
        keep_frames: bool = False,
        on_batch: Callable[[], None] | None = None,
    ) -> list[Embeddings]:
        """Embeddings of each waveform, in the order given; see `Encoder.encode`."""
        for waveform in waveforms:
            _check_waveform(waveform)
        prepared = self._frontend.prepare(waveforms)
        collectors = [self._collector(self._frontend.num_frames(one), keep_frames) for one in prepared]
        jobs = [
            _Job(utterance, window, self._frontend.cut(one, window))
            for utterance, one in enumerate(prepared)
            for window in split_windows(
                collectors[utterance].num_frames, self._settings.longest_window, self._settings.context
            )
        ]
        self._run(jobs, collectors, on_batch or _nothing)
        return [self._finish(collector) for collector in collectors]

    def _run(self, jobs: list[_Job], collectors: list["_Collector"], on_batch: Callable[[], None]) -> None:
        """Every job through the model, in ever smaller micro-batches when memory runs out.

        What one micro-batch leaves is fetched when the next one has been handed to the device: a GPU never waits.
        """
        pending = self._plan(jobs)
        unfetched: tuple[list[_Job], _Output] | None = None
        while pending:
            batch = pending.pop(0)
            output = self._attempt(batch, keep_frames=collectors[batch[0].utterance].frames is not None)
            if output is not None:
                self._count(batch)
                if unfetched is not None:
                    self._fetch(*unfetched, collectors)
                unfetched = batch, output
                on_batch()
                continue
            # Outside the except block: a live traceback would keep the failed tensors in memory.
            if len(batch) == 1:
                raise _too_large(batch[0].window, self.device)
            if self.device == "cuda":
                torch.cuda.empty_cache()
            self._max_frames = max(1, self._max_frames // 2)
            half = len(batch) // 2
            pending = [batch[:half], batch[half:], *self._plan([job for rest in pending for job in rest])]
        if unfetched is not None:
            self._fetch(*unfetched, collectors)

    def _fetch(self, batch: list[_Job], output: _Output, collectors: list["_Collector"]) -> None:
        """What a micro-batch left, from the device to its utterances."""
        ends = np.cumsum([core.stop - core.start for core in output.cores])
        for (layer, pooling), statistics in output.statistics.items():
            for job, core, rows in zip(batch, output.cores, statistics.cpu().numpy(), strict=True):
                collectors[job.utterance].add(layer, pooling, Partial(core.stop - core.start, rows))
        for layer, frames in output.frames.items():
            for job, kept in zip(batch, np.split(frames.cpu().numpy(), ends[:-1]), strict=True):
                collectors[job.utterance].keep(layer, job.window, kept)

    def _plan(self, jobs: list[_Job]) -> list[list[_Job]]:
        lengths = [len(job.window) for job in jobs]
        budget = self._max_frames, self._settings.attention_frames
        if not self._frontend.paddable:
            batches = plan_equal_batches([len(job.input) for job in jobs], lengths, *budget)
        elif self._forward.pads:
            batches = plan_micro_batches(lengths, *budget)
        else:
            batches = plan_packed_batches(lengths, self._max_frames)
        return [[jobs[index] for index in batch] for batch in batches]

    def _attempt(self, batch: list[_Job], *, keep_frames: bool) -> _Output | None:
        """One micro-batch, or None when memory does not suffice."""
        cores = _cores([job.window for job in batch])
        output = _Output(cores, {}, {})
        try:
            for layer, hidden in self._forward([job.input for job in batch], [len(job.window) for job in batch]):
                for pooling in self._settings.poolings:
                    output.statistics[layer, pooling] = window_statistics(hidden, cores, pooling)
                if keep_frames:  # a copy: the model goes on in the same memory
                    output.frames[layer] = torch.cat([hidden[core] for core in cores]).float()
            return output
        except RuntimeError as err:  # torch.OutOfMemoryError is one; CPU allocations only have a message
            if not is_out_of_memory(err):
                raise
            return None

    def _count(self, batch: list[_Job]) -> None:
        lengths = [len(job.window) for job in batch]
        self.stats.num_frames += sum(lengths)
        if self._forward.pads:
            self.stats.num_padding_frames += max(lengths) * len(lengths) - sum(lengths)

    def _collector(self, num_frames: int, keep_frames: bool) -> "_Collector":
        shape = (num_frames, self.dimension)
        frames = {layer: np.empty(shape, np.float32) for layer in self._outputs} if keep_frames else None
        return _Collector(num_frames, {}, frames)

    def _finish(self, collector: "_Collector") -> Embeddings:
        poolings = self._settings.poolings
        pooled = [pooling.finish(collector.partials[layer, pooling]) for layer in self._outputs for pooling in poolings]
        if self._settings.normalise:
            pooled = [unit_length(vector) for vector in pooled]
        frames = None if collector.frames is None else [collector.frames[layer] for layer in self._outputs]
        return Embeddings(collector.num_frames, [vector.astype(np.float32) for vector in pooled], frames)


@dataclass(slots=True)
class _Collector:
    """Puts one utterance together again, window by window, in any order."""

    num_frames: int
    partials: dict[tuple[int, Pooling], Partial]
    frames: dict[int, np.ndarray] | None

    def add(self, layer: int, pooling: Pooling, partial: Partial) -> None:
        if seen := self.partials.get((layer, pooling)):
            partial = Partial(seen.count + partial.count, pooling.merge(seen, partial))
        self.partials[layer, pooling] = partial

    def keep(self, layer: int, window: Window, frames: np.ndarray) -> None:
        if self.frames is not None:
            self.frames[layer][window.core_start : window.core_stop] = frames


def _nothing() -> None:
    pass


def is_out_of_memory(err: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU (`torch.OutOfMemoryError`) or a CPU (only the message tells)."""
    return isinstance(err, torch.OutOfMemoryError) or any(text in str(err) for text in _CPU_OUT_OF_MEMORY)


def _cores(windows: Sequence[Window]) -> list[slice]:
    """Rows that count, which are not context, of windows that lie end to end."""
    starts = accumulate((len(window) for window in windows), initial=0)
    return [
        slice(start + w.core_start - w.start, start + w.core_stop - w.start)
        for start, w in zip(starts, windows, strict=False)
    ]


def _check_waveform(waveform: np.ndarray) -> None:
    if waveform.ndim != 1 or waveform.dtype.name not in ("int16", "float32"):
        raise ValueError(
            "a waveform must be (num_samples,) int16 or float32, "
            f"but has shape {waveform.shape} and type {waveform.dtype}"
        )
    if len(waveform) < WINDOW_SAMPLES:
        raise ValueError(f"a waveform must have at least {WINDOW_SAMPLES} samples (25 ms), but has {len(waveform)}")


def _too_large(window: Window, device: str) -> ConfigError:
    return ConfigError(
        f"audio.max_window_s must be small enough for one window to fit in the memory of the {device}, but a window "
        f"of {len(window) / FRAMES_PER_S:g} s did not; lower audio.max_window_s"
    )
