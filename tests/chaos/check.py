"""What must hold at the end of a seed, whatever happened in it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa

from tests.integration import jobs
from w2vb_ray import storage
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Table

from .corpus import Corpus, Place

MISSING = "missing"


@dataclass
class Findings:
    """What was wrong, counted by what it is called in the summary."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, kind: str, problem: str) -> None:
        self.counts[kind] += 1
        self.problems.append(f"{kind}: {problem}")


def check_tables(
    found: Findings, corpus: Corpus, sink: Place, reference: Mapping[str, np.ndarray], *, frames: bool
) -> None:
    """Compare the tables with what the corpus holds.

    Args:
        found: where to note what is wrong.
        corpus: the source as it is now.
        sink: the tables, as this process reaches them.
        reference: embedding of each content in a run that nothing disturbed.
        frames: the runs since the last change of the corpus kept frames.
    """
    utterances = jobs.table(sink.uri, UTTERANCES, **sink.options)
    rejects = jobs.table(sink.uri, REJECTS, **sink.options)
    _each_once(found, corpus, utterances, rejects)
    _right_rows(found, corpus, utterances, rejects, reference)
    if frames:
        _right_frames(found, corpus, utterances, jobs.table(sink.uri, FRAMES, **sink.options))
    for problem in _fence(sink):
        found.add("fence", problem)
    for problem in _reports(sink):
        found.add("unreconciled", problem)


def _each_once(found: Findings, corpus: Corpus, utterances: pa.Table, rejects: pa.Table) -> None:
    times = Counter(utterances["utterance_id"].to_pylist() + rejects["utterance_id"].to_pylist())
    for id_, path in corpus.ids().items():
        optional = path in corpus.removed and not corpus.scenario.manifest  # nothing tells of a file that is gone
        if times[id_] == 0 and not optional:
            found.add("lost", path)
        if times[id_] > 1:
            found.add("duplicated", f"{path} {times[id_]} times")
    for id_ in times.keys() - corpus.ids().keys():
        found.add("wrong", f"{id_} is not in the source")


def _right_rows(
    found: Findings, corpus: Corpus, utterances: pa.Table, rejects: pa.Table, reference: Mapping[str, np.ndarray]
) -> None:
    ids, expected = corpus.ids(), corpus.expected()
    for row in utterances.to_pylist():
        path, want = ids.get(row["utterance_id"], ""), expected.get(row["utterance_id"])
        if corpus.scenario.manifest and row["text"] != f"text of {path}":
            found.add("wrong", f"{path} has the text {row['text']!r}")
        if want is None:  # embedded before its recording was removed
            continue
        if want.reason is not None:
            found.add("wrong", f"{path} is embedded, but is {want.reason}")
        elif row["source_version"] != want.version or row["language"] != want.language:
            found.add("wrong", f"{path} has version {row['source_version']} and language {row['language']}, not {want}")
        elif not same_vector(np.array(row["embedding"], np.float32), reference[want.content]):
            found.add("wrong", f"{path} has not the embedding of its bytes")
    for row in rejects.to_pylist():
        path, want = ids.get(row["utterance_id"], ""), expected.get(row["utterance_id"])
        if want is None:
            right = row["reason"] == MISSING or not corpus.scenario.manifest
        else:
            right = row["reason"] == want.reason and row["source_version"] == want.version
        if not right:
            found.add("wrong", f"{path} is rejected as {row['reason']} ({row['detail']}), expected {want}")


def _right_frames(found: Findings, corpus: Corpus, utterances: pa.Table, framed: pa.Table) -> None:
    """A matrix for each utterance; nothing can be made of a recording that was gone when frames were asked for."""
    sizes = dict(zip(utterances["utterance_id"].to_pylist(), utterances["num_frames"].to_pylist(), strict=True))
    matrices = {row["utterance_id"]: len(row["frames"]) for row in framed.to_pylist()}
    ids = corpus.ids()
    for id_ in sizes.keys() - matrices.keys():
        if ids.get(id_) not in corpus.removed:
            found.add("wrong", f"{ids.get(id_)} has no frames")
    for id_, num_frames in matrices.items():
        if num_frames != sizes.get(id_):
            found.add("wrong", f"{ids.get(id_)} has {num_frames} frames, its utterance {sizes.get(id_)}")
    if len(matrices) < framed.num_rows:
        found.add("duplicated", f"{framed.num_rows - len(matrices)} rows of frames")


def same_vector(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal to 1e-4 of the norm, or all but the last of the 10 mantissa bits that are kept.

    A value beside the edge of a rounding step may go to its other side in other company.
    """
    if np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected):
        return True
    steps = np.abs(found - expected) > 2**-10 * np.abs(expected) + 1e-6
    return not steps.any() and np.count_nonzero(found != expected) <= len(found) // 20


def _fence(sink: Place) -> Iterator[str]:
    """In every table a run's commits begin with its claim, and numbers grow: nobody wrote after being overtaken."""
    for name in (UTTERANCES, REJECTS, FRAMES):
        delta = Table(name, sink.uri, sink.options).delta
        commits = [] if delta is None else [commit for commit in reversed(delta.history()) if "w2vb.run_id" in commit]
        begins = [next(block) for _, block in groupby(commits, lambda commit: commit["w2vb.run_id"])]
        numbers = [commit["w2vb.number"] for commit in commits]
        if stray := [commit["w2vb.run_id"] for commit in begins if commit["w2vb.kind"] != "claim"]:
            yield f"{stray} wrote to {name} after being overtaken"
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            yield f"numbers of {name} do not grow: {numbers}"


def _reports(sink: Place) -> Iterator[str]:
    """`input = embedded + rejected + unchanged` in the report of every run of the job that came to its end."""
    fs = storage.filesystem(sink.uri, sink.options)
    for path in fs.glob(storage.fs_path(sink.join("_runs/*/report.json"), fs)):
        report = json.loads(fs.cat_file(path))
        if (
            report.get("exit_code") == 0
            and report["input"] != report["embedded"] + report["rejected"] + report["unchanged"]
        ):
            yield f"{path}: {report['input']} != {report['embedded']} + {report['rejected']} + {report['unchanged']}"
