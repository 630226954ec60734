"""The table as its log has it: what made it, and one language without reading the others."""

import sys

from deltalake import DeltaTable

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
table = DeltaTable(f"{sink}/utterances")
made_by = table.metadata().configuration
print(f"version {table.version()}, checkpoint {made_by['w2vb.checkpoint']}, layers {made_by['w2vb.layers']}")
rows = table.to_pyarrow_table(filters=[("language", "=", "eng")], columns=["text", "duration_s", "embedding"])
print(f"{rows.num_rows} utterances in English, {sum(rows['duration_s'].to_pylist()):.1f} s")
