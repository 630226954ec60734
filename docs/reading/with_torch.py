"""A data loader of (embedding, language number), for a probe or a classifier."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from torch.utils.data import DataLoader, TensorDataset

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
partitions = ds.partitioning(pa.schema([("language", pa.string())]), flavor="hive")
table = ds.dataset(f"{sink}/utterances", partitioning=partitions).to_table(["language", "embedding"])
names, labels = np.unique(table["language"].to_pylist(), return_inverse=True)
vectors = np.stack(table["embedding"].to_numpy())
loader = DataLoader(TensorDataset(torch.tensor(vectors), torch.tensor(labels)), batch_size=32, shuffle=True)
for embeddings, numbers in loader:
    print(embeddings.shape, embeddings.dtype, [str(name) for name in names[numbers[:4]]])
