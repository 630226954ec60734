"""Worker processes: several alive at a time, as many as memory allows, and started again when needed again."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.encoder.memory import available_bytes, resident_bytes
from benchmarks.machine import ROOT

_SPARE_BYTES = 3 * 1024**3  # for what a model needs while it encodes, and some keep ever after


class EngineMissing(Exception):
    """An engine cannot run here; says why."""


class _Process:
    def __init__(self, settings: Mapping[str, Any], log: Path, model_bytes: float) -> None:
        self._log, self._model_bytes = log, model_bytes
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.encoder.worker", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"},
            )
        self._ready = False

    def ask(self, command: Mapping[str, Any]) -> Any:
        self.wait_ready()
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: the answer says so
            self._child.stdin.write(json.dumps(command).encode() + b"\n")
            self._child.stdin.flush()
        return self._answer()

    def wait_ready(self) -> None:
        if not self._ready:
            found = self._answer()
            if "missing" in found:
                raise EngineMissing(found["missing"])
            self._ready = True

    @property
    def coming_bytes(self) -> float:
        """What it has yet to ask of the system while it loads."""
        return 0.0 if self._ready else self._model_bytes

    @property
    def ended(self) -> bool:
        return self._child.poll() is not None

    @property
    def resident_bytes(self) -> float:
        return resident_bytes(self._child.pid)

    def stop(self) -> None:
        self._child.kill()
        self._child.communicate()

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            ending = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise EngineMissing(f"its process ended with {code}: {' '.join(ending)[:300]}")
        return json.loads(line)


class Pool:
    """Workers by what they are made of.

    Args:
        folder: for their logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._alive: dict[str, _Process] = {}
        self._missing: dict[str, str] = {}

    def start(self, settings: Mapping[str, Any], model_bytes: float) -> None:
        """Start a worker without waiting for it, where memory allows; otherwise it starts when it is asked."""
        key = _key(settings)
        if key not in self._alive and self._has_room(model_bytes):
            self._alive[key] = self._process(settings, model_bytes)

    def ask(self, settings: Mapping[str, Any], model_bytes: float, command: Mapping[str, Any]) -> Any:
        """A worker's answer to a command; it is started when it is not running, and others are stopped for its memory.

        Raises:
            EngineMissing: it does not run here, or it ended.
        """
        key = _key(settings)
        if key in self._missing:
            raise EngineMissing(self._missing[key])
        found = self._alive.pop(key, None)
        if found is not None and found.ended:  # for lack of memory, while others ran
            found.stop()
            found = None
        self._make_room(model_bytes)
        self._alive[key] = found or self._process(settings, model_bytes)
        try:
            return self._alive[key].ask(command)
        except EngineMissing as err:
            self._missing[key] = str(err)
            self._alive.pop(key).stop()
            raise

    def _process(self, settings: Mapping[str, Any], model_bytes: float) -> _Process:
        return _Process(settings, self._folder / f"{settings['kind']}.log", model_bytes)

    def _make_room(self, model_bytes: float) -> None:
        """Stops the smallest first: they load fastest, and what the largest keep makes their next runs faster."""
        while self._alive and not self._has_room(model_bytes):
            smallest = min(self._alive, key=lambda key: self._alive[key].resident_bytes)
            self._alive.pop(smallest).stop()

    def _has_room(self, model_bytes: float) -> bool:
        coming = sum(process.coming_bytes for process in self._alive.values())
        return available_bytes() - 1.3 * coming >= 1.3 * model_bytes + _SPARE_BYTES

    def wait(self) -> None:
        """Until all that were started are ready, so that loading disturbs no measurement."""
        for key, process in list(self._alive.items()):
            try:
                process.wait_ready()
            except EngineMissing as err:
                self._missing[key] = str(err)
                self._alive.pop(key).stop()

    def stop(self) -> None:
        """End all workers."""
        while self._alive:
            self._alive.popitem()[1].stop()


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
