"""The two sets: clips as they are, and the same clips joined to long-tailed lengths. Both are manifests on disk."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.audio import RATE_HZ, load_audio

SEED = 0
MEDIAN_S, SIGMA, SHORTEST_S, LONGEST_S = 5.0, 1.0, 0.5, 30.0
NUM_LANGUAGES = 4  # of the skewed set: a unit holds one language, and a unit of one utterance shows no batching


@dataclass(frozen=True, slots=True)
class Clip:
    """One file, its language and its length."""

    path: Path
    language: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class CorpusSet:
    """A manifest and what is in it."""

    name: str
    manifest: Path
    clips: list[Clip]

    def facts(self) -> dict[str, Any]:
        """Figures for the report."""
        lengths = np.array([clip.duration_s for clip in self.clips])
        return {
            "utterances": len(lengths),
            "audio_s": float(lengths.sum()),
            "median_s": float(np.median(lengths)),
            "longest_s": float(lengths.max()),
            "languages": len({clip.language for clip in self.clips}),
        }


def read_clips(manifest: Path) -> list[Clip]:
    """Clips of a TSV manifest with `path` and `language`; headerless PCM is left out, a plain script cannot read it."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    paths = [(manifest.parent / row["path"]).resolve() for row in rows]
    return [
        Clip(path, row["language"], float(row.get("duration_s") or soundfile.info(path).duration))
        for path, row in zip(paths, rows, strict=True)
        if path.suffix not in (".raw", ".pcm")
    ]


def dev_set(clips: list[Clip], minutes: float, folder: Path) -> CorpusSet:
    """A part of the corpus, the same every time, in the corpus's order: clips by a hash of their name until enough."""
    audio_s, kept = 0.0, set[Path]()
    for clip in sorted(clips, key=lambda clip: hashlib.sha256(clip.path.name.encode()).digest()):
        if audio_s >= 60 * minutes:
            break
        audio_s += clip.duration_s
        kept.add(clip.path)
    return _write("dev", [clip for clip in clips if clip.path in kept], folder)


def skewed_set(clips: list[Clip], minutes: float, folder: Path) -> CorpusSet:
    """Utterances of log-normal length (median 5 s, sigma 1, cut at 30 s), each joined from clips of one language."""
    rng = np.random.default_rng(SEED)
    lengths_s = _lengths(rng, 60 * minutes)
    by_language: dict[str, list[Clip]] = {}
    for clip in clips:
        by_language.setdefault(clip.language, []).append(clip)
    largest = sorted(by_language, key=lambda name: -sum(clip.duration_s for clip in by_language[name]))[:NUM_LANGUAGES]
    streams = {
        name: _Stream([by_language[name][i] for i in rng.permutation(len(by_language[name]))]) for name in largest
    }
    audio = folder / "audio"
    audio.mkdir(parents=True)
    joined: list[Clip] = []
    for number, length_s in enumerate(lengths_s):
        language = largest[number % len(largest)]
        path = audio / f"{number:05d}.flac"
        soundfile.write(path, streams[language].take(round(length_s * RATE_HZ)), RATE_HZ)
        joined.append(Clip(path, language, round(length_s * RATE_HZ) / RATE_HZ))
    return _write("skewed", joined, folder)


def _lengths(rng: np.random.Generator, audio_s: float) -> list[float]:
    lengths: list[float] = []
    while sum(lengths) < audio_s:
        lengths.append(float(np.clip(MEDIAN_S * np.exp(SIGMA * rng.standard_normal()), SHORTEST_S, LONGEST_S)))
    return lengths


class _Stream:
    """Clips one after the other, for ever."""

    def __init__(self, clips: list[Clip]) -> None:
        self._clips = clips
        self._next = 0
        self._rest = np.empty(0, np.float32)

    def take(self, num_samples: int) -> np.ndarray:
        pieces, found = [self._rest], len(self._rest)
        while found < num_samples:
            pieces.append(load_audio(str(self._clips[self._next % len(self._clips)].path)))
            found += len(pieces[-1])
            self._next += 1
        joined = np.concatenate(pieces)
        self._rest = joined[num_samples:]
        return joined[:num_samples]


def _write(name: str, clips: list[Clip], folder: Path) -> CorpusSet:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.tsv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerow(["path", "language", "duration_s"])
        writer.writerows([clip.path, clip.language, f"{clip.duration_s:.3f}"] for clip in clips)
    return CorpusSet(name, manifest, clips)
