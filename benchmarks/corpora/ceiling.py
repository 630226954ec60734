"""What could retrieval of parallel utterances reach by sound alone, with every phone known?

`python -m benchmarks.corpora.ceiling MANIFEST [--min-items 10]`

A manifest of parallel texts (columns `language`, `parallel_id`, `text`), read aloud by espeak-ng: each utterance is the
histogram of its phones, as if a perfect recogniser had listened and a mean over frames had been taken. What is found so
are cognates, names and loans. A model that has learnt no meaning cannot be expected to find more.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from benchmarks.corpora import espeak
from benchmarks.corpora.packages import unpack_debian
from benchmarks.corpora.synthetic import list_voices
from benchmarks.corpora.texts import CODES, read_codes
from w2vb_ray.evaluate import retrieval
from w2vb_ray.evaluate.retrieval import Parallel

_NUM_SAMPLES = 1_000
_SPEED = {"words_per_minute": 150, "pitch": 50, "pitch_range": 50}  # phones do not depend on it


def main() -> None:
    """Measure, show."""
    options = _parse()
    with options.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    root = unpack_debian([*espeak.PACKAGES, CODES], options.cache)
    voices = {iso: voice for voice, iso in reversed(list_voices(root, read_codes(root)))}
    mute = sorted({row["language"] for row in rows} - voices.keys())
    rows = [row for row in rows if row["language"] in voices]
    items = [row["parallel_id"] for row in rows]
    parallel = Parallel.of(items, [row["language"] for row in rows], options.min_items)
    speaker = espeak.Espeak(root)
    spoken = [[name for _, name in speaker.say(row["text"], voices[row["language"]], **_SPEED).phones] for row in rows]
    vectors = histograms(spoken)
    print(
        f"{parallel.num_items:,} items in {len(retrieval.compared(parallel))} languages"
        + (f"; without a voice: {', '.join(mute)}" if mute else "")
    )
    print(f"chance: R@1 {retrieval.chance(parallel):.3f}")
    for centred in (False, True):
        found = retrieval.retrieve(vectors, parallel, centred=centred, num_samples=_NUM_SAMPLES, seed=0).recall
        how = ", centred" if centred else ""
        print(f"all phones known{how}: R@1 {found.value:.3f} ({found.low:.3f} to {found.high:.3f})")


def histograms(spoken: list[list[str]]) -> np.ndarray:
    """(N, phones) share of each phone; silence, which has no name, is none."""
    places = {name: place for place, name in enumerate(sorted({name for one in spoken for name in one if name}))}
    counts = np.zeros((len(spoken), len(places)))
    for row, names in zip(counts, spoken, strict=True):
        np.add.at(row, [places[name] for name in names if name], 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpora.ceiling", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--min-items", type=int, default=10, help="that two languages must share (10)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/corpora"), help="where packages are kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
