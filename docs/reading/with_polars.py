"""The mean vector of each language."""

import sys

import polars as pl

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
files = f"{sink}/utterances/language=*/*.parquet"  # never **: the log of a Delta table holds Parquet files too
rows = pl.scan_parquet(files, hive_schema={"language": pl.String}).select("language", "embedding")
elements = rows.with_columns(index=pl.int_ranges(pl.col("embedding").list.len())).explode("embedding", "index")
means = elements.group_by("language", "index").agg(pl.col("embedding").mean()).sort("language", "index")
print(means.group_by("language", maintain_order=True).agg("embedding").collect())
