"""The dataset card: `README.md` beside the tables, as the Hugging Face hub and `datasets.load_dataset` read it.

One config per language, whose files are those of its folder. A file that is not ours is left alone.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import yaml

from w2vb_ray import storage
from w2vb_ray.embed.tables import REJECTS, UTTERANCES, Table, partition_path

_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # BCP-47 in shape, which is what the hub checks
_MARK = "<!-- written by w2vb_ray after each run; delete this line to keep your own text -->"
_TEXT = """\
# Speech embeddings

{mark}

{num_rows:,} utterances in {num_languages} languages, embedded with `{checkpoint}`{untrained}: {vectors}, one vector per
utterance in `utterances`{frames}. {num_rejects:,} more could not be embedded; `rejects` says why.

```python
from datasets import load_dataset

rows = load_dataset("{sink_uri}", "{example}", split="train")
```

| language | utterances | rejected |
|---|---|---|
{rows}

The folders are Delta Lake tables. After a changed recording or a compaction plain Parquet readers also see superseded
files, until the next vacuum; readers of Delta do not. What made the vectors:

```yaml
{made_by}```
"""


def write_card(
    sink_uri: str, options: Mapping[str, Any], tables: Mapping[str, Table], *, only_again: bool = False
) -> None:
    """Write the card of the tables as their loaded snapshots have them.

    Args:
        sink_uri: folder of the tables.
        options: fsspec options of its store.
        tables: the tables by name.
        only_again: not where there is none yet.
    """
    uri = storage.join(sink_uri, "README.md")
    there = storage.read_small(uri, options)
    is_due = not only_again if there is None else _MARK.encode() in there
    if tables[UTTERANCES].exists and is_due:
        storage.write_atomic(uri, render(sink_uri, tables).encode(), options)


def render(sink_uri: str, tables: Mapping[str, Table]) -> str:
    """The card's Markdown with its YAML head."""
    embedded, rejected = _num_rows(tables[UTTERANCES]), _num_rows(tables[REJECTS])
    languages = sorted(embedded | rejected)
    made_by = {key: value for key, value in tables[UTTERANCES].properties.items() if key.startswith("w2vb.")}
    text = _TEXT.format(
        mark=_MARK,
        num_rows=embedded.total(),
        num_languages=len(embedded),
        checkpoint=made_by["w2vb.checkpoint"],
        untrained=" (UNTRAINED: the vectors mean nothing)" if made_by["w2vb.trained"] == "false" else "",
        vectors=f"{made_by['w2vb.pooling']} pooling of layers {made_by['w2vb.layers']}",
        frames=", and one vector per 20 ms in `frames`" if tables["frames"].exists else "",
        num_rejects=rejected.total(),
        sink_uri=sink_uri,
        example=_config_name(next(iter(sorted(embedded)), "und")),
        rows="\n".join(f"| {name} | {embedded[name]:,} | {rejected[name]:,} |" for name in languages),
        made_by=yaml.safe_dump(made_by, allow_unicode=True),
    )
    return f"---\n{yaml.safe_dump(_head(sorted(embedded)), allow_unicode=True, sort_keys=False)}---\n\n{text}"


def _head(languages: list[str]) -> dict[str, Any]:
    return {
        "pretty_name": "Speech embeddings",
        "task_categories": ["feature-extraction"],
        "language": [name for name in languages if _TAG.fullmatch(name)],
        "configs": [
            {"config_name": _config_name(name), "data_files": f"{UTTERANCES}/{partition_path(name)}/*.parquet"}
            for name in languages
        ],
    }


def _config_name(language: str) -> str:
    """The language as its folder spells it: `datasets` takes no name with a slash or an asterisk."""
    return quote(language, safe="")


def _num_rows(table: Table) -> Counter[str]:
    found: Counter[str] = Counter()
    for file in table.files():
        found[file.language] += file.num_rows
    return found
