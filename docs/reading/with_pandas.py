"""What is there, and what does a row look like?"""

import sys

import pandas as pd

sink = sys.argv[1] if len(sys.argv) > 1 else "demo"
rows = pd.read_parquet(f"{sink}/utterances", columns=["language", "text", "duration_s", "embedding"])
rows["language"] = rows["language"].astype("str")  # a partition comes as a category

print(f"{len(rows)} utterances in {rows['language'].nunique()} languages, {rows['duration_s'].sum():.0f} s of speech")
first = rows.sort_values(["language", "text"]).drop_duplicates("language")
for language, text, duration_s, embedding in first.head(6).itertuples(index=False):
    print(f"{language}  {duration_s:.2f} s  {text}  {embedding.shape} {embedding[:4].round(2)} ...")
