"""Everything a plan is made of, brought together: the source, what the tables hold, what was forgotten."""

from collections.abc import Mapping
from dataclasses import replace

import ray

from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.embed import spread
from w2vb_ray.embed.extras import align_extras
from w2vb_ray.embed.forgotten import Forgotten
from w2vb_ray.embed.live import Each, Live
from w2vb_ray.embed.plan import Plan, make_plan
from w2vb_ray.embed.tables import UTTERANCES, Table
from w2vb_ray.runtime import cluster
from w2vb_ray.source import Batch, Inventory


def plan_run(config: EmbedConfig, tables: Mapping[str, Table], inventory: Inventory) -> Plan:
    """Plan a run on the loaded snapshots of the tables.

    Raises:
        SinkError: the source's columns do not fit the tables', or the list of what was forgotten cannot be read.
    """

    def aligned(batch: Batch) -> Batch:
        if not tables[UTTERANCES].exists:
            return batch
        return replace(batch, table=align_extras(batch.table, tables[UTTERANCES].columns, config.sink.uri))

    return make_plan(
        map(aligned, inventory.batches()),
        Live.read(tables, _spread(config, tables)),
        config.plan,
        want_frames=config.sink.frames,
        forgotten=Forgotten.read(config.sink.uri, config.sink.storage),
    )


def _spread(config: EmbedConfig, tables: Mapping[str, Table]) -> Each | None:
    """How the tables are read: on the cluster, where there is one and they are very large."""
    num_rows = sum(table.num_rows() for table in tables.values())
    if num_rows < spread.MIN_ROWS or cluster.is_local(config.cluster):
        return None
    if not ray.is_initialized():
        cluster.connect(config.cluster)
    return spread.in_tasks
