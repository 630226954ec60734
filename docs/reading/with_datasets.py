"""One Hugging Face dataset per language, then all of them together."""

import sys
from pathlib import Path
from urllib.parse import unquote

from datasets import Dataset, concatenate_datasets, disable_progress_bars, load_dataset

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
disable_progress_bars()


def read(folder: Path) -> Dataset:
    """The files know everything but their language, which is the name of their folder."""
    files = [str(file) for file in folder.glob("*.parquet")]
    rows = load_dataset("parquet", data_files=files, split="train")
    return rows.add_column("language", [unquote(folder.name.removeprefix("language="))] * len(rows))


rows = concatenate_datasets([read(folder) for folder in sorted(Path(sink, "utterances").glob("language=*"))])
print(rows)
print(rows.with_format("numpy")[0]["embedding"][:4])
