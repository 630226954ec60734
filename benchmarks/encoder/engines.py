"""What encodes: transformers as it is, and the packed forward. One engine holds one model; variants share it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.encoder.models import Size, make_model
from benchmarks.encoder.workloads import load_features, load_samples
from w2vb_ray.audio.features import filterbank_batch
from w2vb_ray.encoder.backends import choose_backend
from w2vb_ray.encoder.batching import default_max_frames, plan_packed_batches
from w2vb_ray.encoder.checkpoint import resolve_checkpoint
from w2vb_ray.encoder.forward import Forward, make_forward
from w2vb_ray.encoder.frontend import make_frontend
from w2vb_ray.encoder.packed import PackedForward
from w2vb_ray.encoder.precision import resolve_precision

PADDED_FRAMES = {"cpu": 800, "cuda": 15_000}  # budget of a micro-batch sorted by length
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Collected:
    """What an engine made of a workload: every utterance's mean over frames, and the frames of the first few.

    Args:
        count: utterances.
        keep: of how many to keep the frames.
    """

    def __init__(self, count: int, keep: int) -> None:
        self._pooled: list[Any] = [None] * count
        self._frames: list[Any] = [None] * min(keep, count)

    def add(self, batch: Sequence[int], pooled: Tensor, frames: Sequence[Tensor]) -> None:
        """One micro-batch: utterances, (B, D), and each one's (L_i, D)."""
        for index, mean, one in zip(batch, pooled, frames, strict=True):
            self._pooled[index] = mean
            if index < len(self._frames):
                self._frames[index] = one.float().clone()

    def pooled(self) -> np.ndarray:
        """(num_utterances, D)"""
        return torch.stack(self._pooled).float().cpu().numpy()

    def frames(self) -> np.ndarray:
        """(sum of their lengths, D), in the order of the workload."""
        return torch.cat(self._frames).cpu().numpy()


class Engine(Protocol):
    """A loaded model.

    Attributes:
        padded: whether a micro-batch is padded to its longest utterance.
        learns_lengths: whether it prepares itself for each length that it meets, so that the first run takes longer.
    """

    padded: bool
    learns_lengths: bool

    def load(self, path: Path) -> list[Any]:
        """The inputs of a workload, where the engine wants them."""
        ...

    def batches(self, variant: str, lengths: Sequence[int]) -> list[list[int]]:
        """Utterances that go through the model together, in order."""
        ...

    def run(self, variant: str, inputs: Sequence[Any], lengths: Sequence[int], into: Collected) -> None:
        """Encode a workload."""
        ...

    def set_threads(self, count: int) -> None:
        """Threads from the next run on."""
        ...


class TransformersEngine:
    """`Wav2Vec2BertModel` as it is.

    Variants are `ATTENTION-batchN`, N utterances at a time in arrival order, and `ATTENTION-sorted`, by length under a
    budget of padded frames. A mask is given only where there is padding: without one transformers is faster.
    """

    padded = True
    learns_lengths = False

    def __init__(self, size: Size, num_layers: int, precision: str, device: torch.device) -> None:
        self._device = device
        self._model = make_model(size, num_layers).to(device, _DTYPES[precision])

    def load(self, path: Path) -> list[Tensor]:
        """See `Engine`."""
        return [torch.from_numpy(one).to(self._device) for one in load_features(path)]

    def batches(self, variant: str, lengths: Sequence[int]) -> list[list[int]]:
        """See `Engine`."""
        return transformers_batches(variant, lengths, self._device.type)

    def run(self, variant: str, inputs: Sequence[Tensor], lengths: Sequence[int], into: Collected) -> None:
        """See `Engine`."""
        self._model.set_attn_implementation(variant.partition("-")[0])
        for batch in self.batches(variant, lengths):
            ends = torch.tensor([lengths[index] for index in batch], device=self._device).unsqueeze(1)
            padded = pad_sequence([inputs[index] for index in batch], batch_first=True)
            full = len({lengths[index] for index in batch}) == 1
            real = torch.arange(padded.shape[1], device=self._device).unsqueeze(0) < ends
            output = self._model(
                input_features=padded.to(self._model.dtype), attention_mask=None if full else real.long()
            )
            hidden = output.last_hidden_state
            pooled = hidden.float().mean(1) if full else (hidden.float() * real.unsqueeze(2)).sum(1) / ends
            into.add(batch, pooled, [row[: lengths[index]] for row, index in zip(hidden, batch, strict=True)])

    def set_threads(self, count: int) -> None:
        """See `Engine`."""
        torch.set_num_threads(count)


class OurEngine:
    """A forward of this package.

    Args:
        make: -> what takes micro-batches without padding.
        device: where it is.
        waveforms: make the features too, on the device.
    """

    padded = False
    learns_lengths = False

    def __init__(self, make: Callable[[], Forward], device: torch.device, *, waveforms: bool = False) -> None:
        self._make, self._device, self._waveforms = make, device, waveforms
        self._forward = make()

    def load(self, path: Path) -> list[Any]:
        """See `Engine`."""
        if self._waveforms:
            return list(load_samples(path))
        return [torch.from_numpy(one).to(self._device) for one in load_features(path)]

    def batches(self, variant: str, lengths: Sequence[int]) -> list[list[int]]:
        """See `Engine`."""
        return plan_packed_batches(lengths, default_max_frames(self._device.type, pads=False))

    def run(self, variant: str, inputs: Sequence[Any], lengths: Sequence[int], into: Collected) -> None:
        """See `Engine`."""
        for batch in self.batches(variant, lengths):
            some = [inputs[index] for index in batch]
            if self._waveforms:
                some = filterbank_batch(some, self._device)
            sizes = [lengths[index] for index in batch]
            for _, hidden in self._forward(some, sizes):
                frames = hidden.split(sizes)
                into.add(batch, torch.stack([one.float().mean(0) for one in frames]), frames)

    def set_threads(self, count: int) -> None:
        """See `Engine`; weights may be laid out for a number of threads, so they are laid out anew."""
        if count != torch.get_num_threads():
            del self._forward
            torch.set_num_threads(count)
            self._forward = self._make()


def make_packed(size: Size, num_layers: int, precision: str, device: torch.device, *, waveforms: bool) -> OurEngine:
    """The packed forward of a model that is made here."""
    dtype = _DTYPES[precision]

    def make() -> Forward:
        model = make_model(size, num_layers).to(device, dtype)
        return PackedForward(model, [num_layers], choose_backend(device, dtype))

    return OurEngine(make, device, waveforms=waveforms)


def make_loaded(folder: Path, device: torch.device) -> OurEngine:
    """What `load_encoder` makes of a checkpoint or an artifact in a folder."""
    section: Any = SimpleNamespace(checkpoint=str(folder), layers=[-1], revision=None, storage={})
    checkpoint = resolve_checkpoint(section)
    precision = resolve_precision("auto", checkpoint, device.type)
    frontend = make_frontend(checkpoint, device)
    return OurEngine(lambda: make_forward(checkpoint, [checkpoint.num_layers], frontend, precision, device), device)


def transformers_batches(variant: str, lengths: Sequence[int], device: str) -> list[list[int]]:
    """Utterances of each micro-batch of a variant of `TransformersEngine`."""
    how = variant.rpartition("-")[2]
    if how == "sorted":
        return _sorted_batches(lengths, PADDED_FRAMES[device])
    size = int(how.removeprefix("batch"))
    return [list(range(start, min(start + size, len(lengths)))) for start in range(0, len(lengths), size)]


def _sorted_batches(lengths: Sequence[int], max_frames: int) -> list[list[int]]:
    """Longest first; as many as fit when padded to the longest, at least one."""
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if room == 0:
            batches.append([])
            room = max(1, max_frames // lengths[index])
        batches[-1].append(index)
        room -= 1
    return batches
