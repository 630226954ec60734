"""The closest pairs of utterances across languages."""

import sys

import duckdb

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
files = f"{sink}/utterances/language=*/*.parquet"  # never **: the log of a Delta table holds Parquet files too
rows = duckdb.sql(f"from read_parquet('{files}', hive_types = {{'language': varchar}})")
print(
    duckdb.sql("""
    select round(list_cosine_similarity(a.embedding, b.embedding), 3) as cosine, a.language, a.text, b.language, b.text
    from rows a join rows b on a.language < b.language
    order by all desc limit 5
    """)
)
