"""The table as its log has it: what made it, and the files that are live, for any reader of Parquet."""

import sys

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
table = DeltaTable(f"{sink}/utterances")
made_by = table.metadata().configuration
print(f"version {table.version()}, checkpoint {made_by['w2vb.checkpoint']}, layers {made_by['w2vb.layers']}")

files = table.file_uris(file_pruning_predicate="language = 'eng'")
partitions = ds.partitioning(pa.schema([("language", pa.string())]), flavor="hive")
rows = ds.dataset(files, partitioning=partitions).to_table(["language", "text", "duration_s", "embedding"])
print(f"{rows.num_rows} utterances in {set(rows['language'].to_pylist())}, {len(files)} file(s)")
