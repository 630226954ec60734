"""Starts the real job on the cluster of a seed, kills it, pauses it, and says how it ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cluster import ROOT
from .corpus import Corpus, Place


class Driver:
    """One process of the job.

    Args:
        command: how it is started.
        log: where its output goes.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout_s: float = 300.0) -> int | None:
        """Exit code; None for a driver that hung, which is killed."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def tail(self, num_lines: int = 12) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])


class Job:
    """The job of one seed: same source, same sink, however often it runs.

    Args:
        corpus: its source.
        sink: where its tables go.
        options: storage options by which it reaches both.
        folder: for configuration and logs.
        address: of the Ray cluster.
        lease_s: `sink.lease_s`.
    """

    def __init__(
        self, corpus: Corpus, sink: Place, options: Mapping[str, Any], folder: Path, address: str, lease_s: float
    ) -> None:
        self._folder = folder
        self.frames = corpus.scenario.frames
        self._drivers: list[Driver] = []
        self._conf = folder / "conf.yaml"
        scenario = corpus.scenario
        source = {"uri": corpus.uri, "storage": dict(options)}
        if not scenario.manifest:
            source["language"] = "path:{language}/"
        conf = {
            "source": source,
            "cluster": {"address": address, "num_encoders": 1, "cpus_per_encoder": 1},
            "encoder": {"device": "cpu"},
            "plan": {"unit_utterances": scenario.unit_utterances},
            "sink": {
                "uri": sink.uri,
                "storage": dict(options),
                "commit_files": scenario.commit_files,
                "max_reject_fraction": 1.0,
                "lease_s": lease_s,
            },
        }
        self._conf.write_text(json.dumps(conf))  # JSON is YAML

    def start(self, where: str = "") -> Driver:
        """Start a run; `where` names the machine that it believes to be on, this one unless given."""
        module = ["tests.chaos.elsewhere", where] if where else ["jobs.embed"]
        return self._start(*module, str(self._conf), f"sink.frames={str(self.frames).lower()}")

    def maintain(self, action: str) -> Driver:
        """Start maintenance of the tables, which leaves nothing for the sake of readers."""
        given = [f"maintain.action={action}", "maintain.dry_run=false", "maintain.retention_h=0"]
        return self._start("jobs.maintain", str(self._conf), *given)

    def _start(self, *module: str) -> Driver:
        log = self._folder / f"run{len(self._drivers) + 1:02d}.log"
        self._drivers.append(Driver([sys.executable, "-m", *module], log))
        return self._drivers[-1]

    def stop(self) -> None:
        """Kill what still runs."""
        for driver in self._drivers:
            driver.send(signal.SIGKILL)
            driver.process.wait()
