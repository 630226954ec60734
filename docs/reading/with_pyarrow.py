"""The nearest utterances in other languages, by cosine."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
partitions = ds.partitioning(pa.schema([("language", pa.string())]), flavor="hive")
table = ds.dataset(f"{sink}/utterances", partitioning=partitions).to_table(["language", "text", "embedding"])
table = table.sort_by([("language", "ascending"), ("text", "ascending")])

vectors = np.stack(table["embedding"].to_numpy())
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
languages, texts = np.array(table["language"].to_pylist()), table["text"].to_pylist()
cosines = np.where(languages == languages[0], -np.inf, vectors @ vectors[0])
for row in np.argsort(-cosines)[:5]:
    print(f"{cosines[row]:.3f}  {languages[0]} {texts[0]}  ~  {languages[row]} {texts[row]}")
