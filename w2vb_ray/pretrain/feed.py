"""A worker's micro-batches, in their order: Ray Data reads, decodes, cuts and makes model inputs ahead of the model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch.nn.utils.rnn import pad_sequence

from w2vb_ray.audio import features
from w2vb_ray.config.pretrain import PretrainConfig, WorkersSection
from w2vb_ray.embed.encode import waveform_of
from w2vb_ray.embed.read import read_unit
from w2vb_ray.pretrain.masking import MIN_FRAMES
from w2vb_ray.pretrain.plan import EpochPlan
from w2vb_ray.pretrain.update import MicroBatch
from w2vb_ray.runtime.data import RETRIES, configure_data

_AHEAD = 4  # micro-batches that wait beside the model
_WINDOW = 2_000  # micro-batches that Ray Data knows of at once


def feed(
    corpus: Any, plan: EpochPlan, config: PretrainConfig, updates: range, rank: int, world_size: int
) -> Iterator[list[MicroBatch]]:
    """The share of a worker in each update of an epoch, every `world_size`-th micro-batch.

    An utterance that cannot be read any more is left out.

    Args:
        corpus: reference to the table of `corpus.Corpus` in the object store.
        plan: of the epoch.
        config: of the run.
        updates: which of the epoch's.
        rank: of the worker.
        world_size: number of workers.
    """
    shares = [plan.micro_batches(update)[rank::world_size] for update in updates]
    pieces = [piece for share in shares for piece in share]
    made = _read(corpus, plan, config, pieces) if pieces else iter(())
    for share in shares:
        batches = [next(made) for _ in share]
        yield [micro for micro in batches if micro is not None]


def _read(corpus: Any, plan: EpochPlan, config: PretrainConfig, pieces: Sequence[slice]) -> Iterator[MicroBatch | None]:
    configure_data(in_order=True)

    def make(planned: pa.Table) -> pa.Table:
        (row,) = planned.to_pylist()
        return _inputs(row, ray.get(corpus), config)

    for start in range(0, len(pieces), _WINDOW):
        # A block each: what is in one block is read by one task, one after the other.
        blocks = [_planned(plan, piece) for piece in pieces[start : start + _WINDOW]]
        rows: Any = ray.data.from_blocks(blocks).map_batches(
            make, batch_size=1, batch_format="pyarrow", max_retries=RETRIES, **_place(config.workers)
        )
        for batch in rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=_AHEAD):
            yield _micro_batch(batch, config)


def cpus_of_worker(workers: WorkersSection) -> int:
    """Logical CPUs that a worker holds: on CPUs one of two is for its reading; beside GPUs that takes what is free."""
    return 1 if workers.use_gpu else 2


def _place(workers: WorkersSection) -> dict[str, Any]:
    """Where a worker's reading runs.

    Where workers take all CPUs, as those of a shrunken cluster may, tasks of one CPU would wait for ever.
    """
    if workers.use_gpu:
        return {"num_cpus": 1}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return {"num_cpus": 0, "concurrency": 1, "scheduling_strategy": here}


def _planned(plan: EpochPlan, piece: slice) -> pa.Table:
    return pa.table(
        {
            "rows": pa.array([plan.rows[piece].tolist()], pa.list_(pa.int64())),
            "start_s": pa.array([plan.start_s[piece].tolist()], pa.list_(pa.float64())),
            "duration_s": pa.array([plan.duration_s[piece].tolist()], pa.list_(pa.float64())),
            "numbers": pa.array([plan.numbers[piece].tolist()], pa.list_(pa.int64())),
        }
    )


def _inputs(row: dict[str, Any], corpus: pa.Table, config: PretrainConfig) -> pa.Table:
    """Model inputs of one micro-batch, one after the other as bytes."""
    decoded = read_unit(corpus.take(pa.array(row["rows"])), config.source, config.audio)
    numbers: list[int] = []
    waveforms: list[np.ndarray] = []
    for index, (start_s, duration_s) in enumerate(zip(row["start_s"], row["duration_s"], strict=True)):
        if decoded["reason"][index].as_py() is None:
            start = round(start_s * features.SAMPLING_RATE_HZ)
            waveforms.append(waveform_of(decoded, index)[start : start + round(duration_s * features.SAMPLING_RATE_HZ)])
            numbers.append(row["numbers"][index])
    if config.model.type == "wav2vec2-bert":
        inputs = [one.numpy() for one in features.filterbank_batch(waveforms)] if waveforms else []
    else:
        inputs = [features.standardise_waveform(waveform) for waveform in waveforms]
    data = b"".join(np.ascontiguousarray(one, np.float32).tobytes() for one in inputs)
    return pa.table(
        {
            "numbers": pa.array([numbers], pa.list_(pa.int64())),
            "lengths": pa.array([[len(one) for one in inputs]], pa.list_(pa.int64())),
            "inputs": pa.array([data], pa.large_binary()),
        }
    )


def _micro_batch(batch: pa.Table, config: PretrainConfig) -> MicroBatch | None:
    (lengths,), (numbers,) = batch["lengths"].to_pylist(), batch["numbers"].to_pylist()
    of_features = config.model.type == "wav2vec2-bert"
    flat = np.frombuffer(batch["inputs"][0].as_buffer(), np.float32)
    parts = np.split(flat.reshape(-1, 160) if of_features else flat, np.cumsum(lengths)[:-1])
    num_frames = lengths if of_features else [features.num_waveform_frames(length) for length in lengths]
    kept = [index for index, count in enumerate(num_frames) if count >= MIN_FRAMES]
    if not kept:
        return None
    inputs = pad_sequence([torch.from_numpy(parts[index].copy()) for index in kept], batch_first=True)
    return MicroBatch(
        [numbers[index] for index in kept],
        inputs,
        [lengths[index] for index in kept],
        [num_frames[index] for index in kept],
    )
