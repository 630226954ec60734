"""The source of one seed: recordings in a folder or named by a manifest, how they change, and what is to be expected.

Recordings are real short clips, and bad files among them. What a run should make of each is known beforehand: the
embedding of the same bytes in a clean run, or a reason.
"""

import io
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import soundfile

from tests.integration import jobs
from w2vb_ray import storage
from w2vb_ray.source.identity import utterance_ids

from .scenario import Edit, Scenario

NUM_CLIPS = 40
LANGUAGES = ("bel", "eng", "jpn")


def clips() -> list[bytes]:
    """The shortest recordings of the sample."""
    rows = sorted(jobs.sample_rows(), key=lambda row: (float(row["duration_s"]), row["path"]))
    return [(jobs.SAMPLE / row["path"]).read_bytes() for row in rows[:NUM_CLIPS]]


def bad_files() -> dict[str, bytes]:
    """Reason -> a file that must be rejected for it."""
    whole = (jobs.SAMPLE / "bel/tp_animals-birds-owl.ogg").read_bytes()
    samples = np.zeros(16_000, np.float32)
    samples[800] = np.nan
    return {
        "empty": b"",
        "undecodable": b"<Error><Code>NoSuchKey</Code></Error>",
        "truncated": whole[: len(whole) * 2 // 3],
        "too_short": _wav(np.zeros(300, np.int16), "PCM_16"),
        "non_finite": _wav(samples, "FLOAT"),
    }


def _wav(samples: np.ndarray, subtype: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, subtype=subtype, format="WAV")
    return out.getvalue()


def key_of(data: bytes) -> str:
    """Names the content of a file."""
    return sha256(data).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of files, local or in a bucket, and the options of its store."""

    uri: str
    options: Mapping[str, str]

    def join(self, path: str) -> str:
        return storage.join(self.uri, path)

    def write(self, path: str, data: bytes) -> None:
        storage.write_atomic(self.join(path), data, self.options)

    def remove(self, path: str) -> None:
        fs = storage.filesystem(self.uri, self.options)
        fs.rm_file(storage.fs_path(self.join(path), fs))

    def version(self, path: str) -> str:
        fs: fsspec.AbstractFileSystem = storage.filesystem(self.uri, self.options)
        return storage.version_of(fs.info(storage.fs_path(self.join(path), fs)))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the tables must hold of one utterance: the embedding of some bytes, or a reason."""

    version: str
    language: str
    content: str | None = None
    reason: str | None = None


@dataclass
class Corpus:
    """Utterances of a seed, by path of their recording.

    Args:
        place: where it lies.
        scenario: whether it has a manifest, and how large it is.
    """

    place: Place
    scenario: Scenario
    contents: dict[str, bytes] = field(default_factory=dict)  # path -> bytes in the store now
    removed: set[str] = field(default_factory=set)
    wide: bool = False

    def __post_init__(self) -> None:
        self._draw = random.Random(f"corpus {self.scenario.seed}")
        self._clips, self._bad = clips(), bad_files()
        self._number = 0
        for _ in range(self.scenario.num_utterances):
            self._add(self._clip())
        for _ in range(self._draw.randint(0, 3)):
            self._add(self._draw.choice(list(self._bad.values())))
        self._write_manifest()

    def edit(self, edit: Edit) -> None:
        """Change the source; what is asked of the job is nothing to it."""
        bad = {key_of(data) for data in self._bad.values()}
        fine = [path for path, data in self.contents.items() if key_of(data) not in bad]
        broken = [path for path in self.contents if path not in fine]
        match edit:
            case Edit.ADD:
                for _ in range(self._draw.randint(4, 10)):
                    self._add(self._clip())
            case Edit.CHANGE:
                for path in self._some(fine):
                    self._put(path, self._clip())
            case Edit.REMOVE:
                for path in self._some(list(self.contents)):
                    self.place.remove(path)
                    del self.contents[path]
                    self.removed.add(path)
            case Edit.BREAK:
                for path in self._some(fine):
                    self._put(path, self._draw.choice(list(self._bad.values())))
            case Edit.MEND:
                for path in self._some(broken):
                    self._put(path, self._clip())
            case Edit.WIDEN:
                self.wide = True
            case Edit.FRAMES | Edit.MAINTAIN:
                pass
        self._write_manifest()

    @property
    def uri(self) -> str:
        """`source.uri`."""
        return self.place.join("manifest.tsv" if self.scenario.manifest else "audio")

    def ids(self) -> dict[str, str]:
        """Utterance id -> path, those whose recording was removed included."""
        paths = [*self.contents, *sorted(self.removed)]
        if self.scenario.manifest:
            return {_given_id(path): path for path in paths}
        none = pa.array([None] * len(paths), pa.float64())
        hashed = utterance_ids(pa.array([self.place.join(path) for path in paths]), none, none, None)
        return dict(zip(hashed.to_pylist(), paths, strict=True))

    def expected(self) -> dict[str, Expected]:
        """By utterance id, of every recording that is there."""
        reasons = {key_of(data): reason for reason, data in self._bad.items()}
        found = {}
        for id_, path in self.ids().items():
            if path in self.contents:
                content = key_of(self.contents[path])
                language = path.split("/")[1]
                found[id_] = Expected(self.place.version(path), language, content, reasons.get(content))
        return found

    def _clip(self) -> bytes:
        return self._draw.choice(self._clips)

    def _some(self, paths: list[str]) -> list[str]:
        return self._draw.sample(paths, min(len(paths), self._draw.randint(2, 6)))

    def _add(self, data: bytes) -> None:
        self._number += 1
        self._put(f"audio/{self._draw.choice(LANGUAGES)}/{self._number:03d}.ogg", data)

    def _put(self, path: str, data: bytes) -> None:
        self.place.write(path, data)
        self.contents[path] = data

    def _write_manifest(self) -> None:
        if not self.scenario.manifest:
            return
        rows = [
            {"utterance_id": _given_id(path), "path": path, "language": path.split("/")[1], "text": f"text of {path}"}
            | ({"speaker": "one"} if self.wide else {})
            for path in [*self.contents, *sorted(self.removed)]
        ]
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        self.place.write("manifest.tsv", ("\n".join(lines) + "\n").encode())


def _given_id(path: str) -> str:
    return f"utterance {Path(path).stem}"
