"""The norm of every vector, on all cores or on a cluster."""

import glob
import sys

import numpy as np
import ray
from ray.data.datasource import Partitioning

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"


def norms(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(N, D) -> (N,)"""
    return {"language": batch["language"], "norm": np.linalg.norm(np.stack(batch["embedding"]), axis=1)}


files = glob.glob(f"{sink}/utterances/language=*/*.parquet")
languages = Partitioning("hive", field_types={"language": str})
rows = ray.data.read_parquet(files, partitioning=languages).select_columns(["language", "embedding"])
print(rows.map_batches(norms).take_batch(5))
