"""One repetition of one row: run it in its own processes, watch them, and work the figures out."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.embed.sets import CorpusSet
from benchmarks.machine import ROOT
from benchmarks.process import Watched, run_watched
from w2vb_ray.config import yaml12
from w2vb_ray.embed.pipeline import ENCODER_ENVIRONMENT

ROWS = ("script", "encoder alone", "job")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one repetition of a row showed. Steady state is without start-up and shut-down:

    script: model and data set ready to Parquet written; encoder alone: model ready to last unit done; job: first unit
    at an encoder to last commit.
    """

    set: str
    row: str
    audio_s: float
    wall_s: float
    startup_s: float
    steady_s: float
    encoder_s: float  # features, forward and pooling
    cpu_s: float  # of the process tree, start to end
    steady_cpu_s: float
    steady_cpu_by_part: dict[str, float]
    padding_waste: float
    peak_rss: dict[str, int]
    peak_uss: dict[str, int]
    attention: str | None = None

    @property
    def speed(self) -> dict[str, float]:
        """Audio seconds per second of each clock, and what steady state spends outside the encoder."""
        return {
            "audio_per_wall_s": self.audio_s / self.wall_s,
            "audio_per_steady_s": self.audio_s / self.steady_s,
            "audio_per_cpu_s": self.audio_s / self.cpu_s,
            "audio_per_steady_cpu_s": self.audio_s / max(self.steady_cpu_s, 1e-9),
            "outside_encoder": 1 - self.encoder_s / self.steady_s,
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), **self.speed}


@dataclass(frozen=True, slots=True)
class Bench:
    """What all rows share.

    Args:
        folder: temporary files.
        checkpoint: the model.
        threads: CPU threads of the model in every row; in the job as many encoders of one thread, as it does by itself.
        overrides: more settings of the job, `section.key=value`.
    """

    folder: Path
    checkpoint: Path
    threads: int
    overrides: tuple[str, ...] = ()

    def measure(self, row: str, corpus: CorpusSet, repetition: int) -> Figures:
        """Run one row on one set once."""
        folder = self.folder / "runs" / f"{corpus.name}-{row.replace(' ', '-')}-{repetition}"
        folder.mkdir(parents=True)
        match row:
            case "script":
                return self._script(corpus, folder)
            case "encoder alone":
                return self._alone(corpus, folder)
            case _:
                return self._job(corpus, folder)

    def _script(self, corpus: CorpusSet, folder: Path) -> Figures:
        facts = folder / "facts.json"
        arguments = [str(corpus.manifest), str(self.checkpoint), str(folder / "embeddings.parquet")]
        watched = self._python("benchmarks.embed.script", folder, *arguments, *self._threads(facts))
        return _figures(corpus.name, "script", watched, json.loads(facts.read_text()))

    def _alone(self, corpus: CorpusSet, folder: Path) -> Figures:
        facts = folder / "facts.json"
        config = self._config(corpus, folder)
        watched = self._python("benchmarks.embed.alone", folder, str(config), *self._threads(facts))
        return _figures(corpus.name, "encoder alone", watched, json.loads(facts.read_text()))

    def _job(self, corpus: CorpusSet, folder: Path) -> Figures:
        watched = self._python("jobs.embed", folder, str(self._config(corpus, folder)), *self.overrides)
        sink = folder / "sink"
        report = json.loads(next(sink.glob("_runs/*/report.json")).read_text())
        if report["rejected"] or report["embedded"] != len(corpus.clips):
            raise RuntimeError(f"the job embedded {report['embedded']} of {len(corpus.clips)} utterances")
        waste, done = report["padding_waste"], last_commit(sink / "utterances")
        facts = {
            "ready": done - report["steady_s"],
            "done": done,
            "encoder_s": report["encoder_s"] / report["num_encoders"],
            "audio_s": 3600 * report["audio_hours"],
            "num_frames": 1 - waste,
            "num_padding_frames": waste,
        }
        return _figures(corpus.name, "job", watched, facts)

    def _python(self, module: str, folder: Path, *arguments: str) -> Watched:
        environment = {"HF_HOME": str(folder / "huggingface"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        if module == "benchmarks.embed.alone":
            environment |= ENCODER_ENVIRONMENT  # the job's encoder has it, and the script is as people write it
        command = [sys.executable, "-m", module, *arguments]
        return run_watched(command, folder / "output.txt", ROOT, {**os.environ, **environment})

    def _threads(self, facts: Path) -> tuple[str, ...]:
        return "--threads", str(self.threads), "--facts", str(facts)

    def _config(self, corpus: CorpusSet, folder: Path) -> Path:
        config = {
            "source": {"uri": str(corpus.manifest)},
            "encoder": {"checkpoint": str(self.checkpoint), "device": "cpu"},
            "cluster": {"num_encoders": self.threads, "cpus_per_encoder": 1},
            "sink": {"uri": str(folder / "sink")},
        }
        path = folder / "config.yaml"
        path.write_text(yaml12.dump(config), encoding="utf-8")
        return path


def last_commit(table: Path) -> float:
    """Unix time of the last commit of rows in a Delta table, from its log."""
    entries = [json.loads(line) for path in table.glob("_delta_log/*.json") for line in path.read_text().splitlines()]
    commits = [entry["commitInfo"] for entry in entries if "commitInfo" in entry]
    return max(commit["timestamp"] for commit in commits if commit.get("w2vb.kind") == "batch") / 1000


def _figures(corpus: str, row: str, watched: Watched, facts: Mapping[str, Any]) -> Figures:
    steady = watched.cpu_between(facts["ready"], facts["done"])
    frames = facts["num_frames"] + facts["num_padding_frames"]
    return Figures(
        set=corpus,
        row=row,
        audio_s=facts["audio_s"],
        wall_s=watched.ended - watched.started,
        startup_s=facts["ready"] - watched.started - facts.get("read_s", 0.0),
        steady_s=facts["done"] - facts["ready"],
        encoder_s=facts["encoder_s"],
        cpu_s=sum(float(cpu_s[-1]) for cpu_s in watched.cpu_s.values()),
        steady_cpu_s=sum(steady.values()),
        steady_cpu_by_part=steady,
        padding_waste=facts["num_padding_frames"] / frames,
        peak_rss=watched.peak_rss,
        peak_uss=watched.peak_uss,
        attention=facts.get("attention"),
    )
