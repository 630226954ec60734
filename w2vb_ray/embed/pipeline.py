"""The whole flow of a run on one screen: packed units in, descriptors of written files out."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from w2vb_ray import schema
from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.embed.encode import EncodeUnits
from w2vb_ray.embed.read import read_units
from w2vb_ray.embed.rounds import Rounds
from w2vb_ray.embed.stream import Abandonable
from w2vb_ray.embed.watch import Watchdog
from w2vb_ray.embed.write import WriteTask, write_units
from w2vb_ray.runtime.data import RETRIES, configure_data

Stage = Callable[[pa.Table], pa.Table]  # with its keyword arguments filled in by Ray

READ_MEMORY_BYTES = 1024**3
WRITE_MEMORY_BYTES = 512 * 1024**2
ENCODER_MEMORY_BYTES = 1536 * 1024**2  # beside the weights
NO_PROGRESS_TIMEOUT_S = 3600.0  # Ray's guard against hangs; a unit is minutes of work even on one CPU core
# Only read on CPUs. libgomp spins for a millisecond before its threads sleep: with one other busy process on two cores
# that costs an encoder a third of its speed, and at 3000 turns nothing. Huge pages save the page faults of activations,
# a quarter of the CPU time of long utterances without them.
ENCODER_ENVIRONMENT = {"GOMP_SPINCOUNT": "3000", "THP_MEM_ALLOC_ENABLE": "1"}


def build(units: Sequence[int], rounds: Rounds, config: EmbedConfig, task: WriteTask, watchdog: Watchdog) -> Dataset:
    """Units -> read -> encode -> write. A new stage is one new call here.

    One row is one unit in every stage, so `batch_size=1` hands over whole units and nothing is split or glued.
    """
    pool = watchdog.pool
    return (
        # `from_arrow` would start a task for each of them, just to look at it, before anything streams.
        ray.data.from_blocks([schema.pack_planned(rounds.rows(unit), unit) for unit in units])
        .map_batches(
            cast(Stage, read_units),
            fn_kwargs={"source": config.source, "audio": config.audio, "watch": watchdog.watched("read")},
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            memory=READ_MEMORY_BYTES,
            max_retries=RETRIES,
        )
        .map_batches(
            EncodeUnits,
            fn_constructor_kwargs={
                "config": config,
                "num_threads": pool.num_threads,
                "watch": watchdog.watched("encode"),
            },
            batch_size=1,
            batch_format="pyarrow",
            # The pool is fixed: growing and shrinking it loads the model again.
            compute=ActorPoolStrategy(size=min(pool.size, len(units)), max_tasks_in_flight_per_actor=2),
            num_cpus=pool.cpus_per_encoder,
            num_gpus=pool.gpus_per_encoder,
            memory=pool.memory_bytes,
            runtime_env={"env_vars": ENCODER_ENVIRONMENT},
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        .map_batches(
            cast(Stage, write_units),
            fn_kwargs={"task": task, "watch": watchdog.watched("write")},
            batch_size=config.sink.units_per_file,
            batch_format="pyarrow",
            num_cpus=0.5,
            memory=WRITE_MEMORY_BYTES,
            max_retries=RETRIES,
        )
    )


def configure() -> None:
    """Ray Data settings of a run, in this process."""
    context = configure_data(in_order=False)
    context.custom_execution_callback_classes = [cast(Any, Abandonable)]
    context.max_consecutive_actor_init_deaths = 3  # Ray does not start an encoder again that died while it loaded
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
