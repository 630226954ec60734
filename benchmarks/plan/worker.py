"""One plan in a process of its own, as the job makes it: `python -m benchmarks.plan.worker CONF.json FACTS.json`."""

import json
import resource
import sys
import time
from pathlib import Path

from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.embed.live import Live
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.tables import open_tables
from w2vb_ray.source import build_inventory


def main() -> None:
    """Plan, look at every unit once, leave times and counts in a file."""
    config = EmbedConfig.model_validate(json.loads(Path(sys.argv[1]).read_text()))
    before_mib = _peak_mib()
    started, started_cpu = time.perf_counter(), time.process_time()
    tables = open_tables(config.sink.uri, config.sink.storage)
    inventory = build_inventory(config.source)
    listed = time.perf_counter()
    live = Live.read(tables)
    scanned = time.perf_counter()
    plan = make_plan(inventory.batches(), live, config.plan)
    planned, cpu_s = time.perf_counter(), time.process_time() - started_cpu
    peak_mib = _peak_mib()
    num_rows = sum(unit.num_rows for unit in plan.units)
    done = time.perf_counter()
    assert num_rows == plan.num_planned
    facts = {
        "rows": plan.num_input,
        "seconds": planned - started,
        "peak_memory_mib": peak_mib,
        "memory_before_mib": before_mib,
        "list_s": listed - started,
        "scan_s": scanned - listed,
        "join_s": planned - scanned,
        "cpu_s": cpu_s,
        "planned": plan.num_planned,
        "unchanged": plan.num_unchanged,
        "units": len(plan.units),
        "make_units_s": done - planned,
        "peak_memory_with_units_mib": _peak_mib(),
    }
    Path(sys.argv[2]).write_text(json.dumps(facts))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
