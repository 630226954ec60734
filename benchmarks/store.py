"""How much does a store that fails cost the `embed` job?

`python -m benchmarks.store [--copies N] [--seed N] [--json FILE]`

The job from S3 into S3 with a model of the base size (random weights), the sample of this repository copied N times,
against moto's server through a proxy: once clean, once with 5 % of all requests answered by 503, reset, done with the
reply lost, or held back for 8 s.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.models import base_checkpoint
from tests.faults.proxy import Fault, FaultyStore
from w2vb_ray import storage

FAULTS: Mapping[Fault, float] = {"slow_down": 0.0125, "reset": 0.0125, "lost_reply": 0.0125, "hang": 0.0125}
SAMPLE = machine.ROOT / "tests" / "data" / "speech"
TARGET_RATIO = 1.5


def main() -> None:
    """Measure, show, save."""
    options = _parse()
    console, about = Console(soft_wrap=True), machine.describe(("ray", "s3fs", "aiobotocore", "deltalake"))
    console.print(machine.one_line(about), highlight=False)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with FaultyStore(f"http://{host}:{port}", seed=options.seed) as store:
        os.environ.update(AWS_ACCESS_KEY_ID="benchmark", AWS_SECRET_ACCESS_KEY="benchmark", AWS_REGION="us-east-1")
        os.environ["AWS_ENDPOINT_URL"] = store.endpoint
        num_objects = _upload(options.copies)
        with tempfile.TemporaryDirectory(prefix="w2vb-store-") as folder:
            checkpoint = base_checkpoint(Path(folder))
            rows = [_measure(store, name, faults, checkpoint) for name, faults in (("clean", {}), ("faulty", FAULTS))]
    server.stop()
    _show(console, rows, num_objects)
    if options.json:
        result = {"machine": about, "num_objects": num_objects, "faults": dict(FAULTS), "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _upload(copies: int) -> int:
    fs = storage.filesystem("s3://corpus")
    for bucket in ("corpus", "clean", "faulty"):
        fs.mkdir(bucket)
    clips = sorted(path for path in SAMPLE.glob("*/*.*") if path.parent.name.islower())
    for clip in clips:
        for copy in range(copies):
            fs.pipe_file(f"corpus/audio/{clip.parent.name}/{copy}-{clip.name}", clip.read_bytes())
    return copies * len(clips)


def _measure(store: FaultyStore, name: str, faults: Mapping[Fault, float], checkpoint: Path) -> dict[str, Any]:
    store.faults, store.counts, store.num_requests = {"*": faults}, Counter(), 0
    command = [sys.executable, "-m", "jobs.embed", "conf/embed/s3.yaml", "cluster.address=local"]
    places = ["source.uri=s3://corpus/audio", f"sink.uri=s3://{name}/tables", f"encoder.checkpoint={checkpoint}"]
    started = time.monotonic()
    subprocess.run([*command, *places], cwd=machine.ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    by_fault = {f"{kind}.{fault}": count for (kind, fault), count in sorted(store.counts.items())}
    store.faults = {}
    fs = storage.filesystem(f"s3://{name}")
    (report,) = (json.loads(fs.cat_file(path)) for path in fs.find(name) if path.endswith("report.json"))
    outcome = {key: report[key] for key in ("embedded", "rejected")}
    return {"store": name, "seconds": seconds, "requests": store.num_requests, "faults": by_fault, **outcome}


def _show(console: Console, rows: list[dict[str, Any]], num_objects: int) -> None:
    table = Table("store", "seconds", "requests", "faults", "embedded", "rejected")
    for row in rows:
        faults = ", ".join(f"{count} {fault}" for fault, count in sorted(row["faults"].items()))
        table.add_row(
            row["store"],
            f"{row['seconds']:.1f}",
            str(row["requests"]),
            faults,
            str(row["embedded"]),
            str(row["rejected"]),
        )
    console.print(table)
    ratio = rows[1]["seconds"] / rows[0]["seconds"]
    verdict = "met" if ratio <= TARGET_RATIO else "MISSED"
    console.print(f"{num_objects} objects; {ratio:.2f} times the clean time (target {TARGET_RATIO}: {verdict})")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.store", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=4, metavar="N", help="of the sample's clips (4)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
