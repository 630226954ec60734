"""What lives longer than a seed, because it is slow to start: the cluster, the S3 endpoint, the clean embeddings."""

import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import fsspec
import numpy as np

from tests.integration import jobs
from w2vb_ray import storage
from w2vb_ray.errors import ExitCode

from .cluster import RayCluster
from .corpus import Place, clips, key_of
from .gate import Gate
from .job import Driver

_KEYS = {"key": "testing", "secret": "testing", "region": "us-east-1"}


class Bench:
    """The machine room of a series of seeds; a context manager, used from the main thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with self._closing:
            self.cluster = RayCluster()
            self._closing.callback(self.cluster.close)
            self._endpoint = self._serve_s3()
            self.gate = self._closing.enter_context(Gate(self._endpoint))
            self.reference = self._embed_clean()
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def places(self, seed: int, *, on_s3: bool) -> tuple[Place, Place, dict[str, Any]]:
        """(source, sink) of a seed, empty, and the storage options by which the job reaches them."""
        if not on_s3:
            folder = self.folder / f"seed{seed}"
            return Place(str(folder / "source"), {}), Place(str(folder / "sink"), {}), {}
        bucket = f"chaos-{seed}-{uuid.uuid4().hex[:8]}"
        self._store().mkdir(bucket)
        direct = {**_KEYS, "endpoint_url": self._endpoint}
        patient = {"read_timeout": 60}  # a write that the gate holds is not sent again before it is let go
        gated = {**_KEYS, "endpoint_url": self.gate.endpoint, "config_kwargs": patient}
        return Place(f"s3://{bucket}/source", direct), Place(f"s3://{bucket}/tables", direct), gated

    def empty(self, place: Place) -> None:
        """Delete a seed's bucket, which the endpoint holds in memory."""
        if place.uri.startswith("s3://"):
            self._store().rm(place.uri.split("/")[2], recursive=True)

    def _store(self) -> fsspec.AbstractFileSystem:
        given = {name: value for name, value in _KEYS.items() if name != "region"}
        return storage.filesystem("s3://", {**given, "endpoint_url": self._endpoint})

    def _serve_s3(self) -> str:
        """moto's server, in a process of its own."""
        log = self.folder / "s3.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
            server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        self._closing.callback(lambda: (server.kill(), server.wait()))
        deadline = time.monotonic() + 60
        while "Running on http" not in log.read_text():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 endpoint did not start: {log.read_text()}")
            time.sleep(0.1)
        return "http://127.0.0.1:" + log.read_text().partition("Running on http://127.0.0.1:")[2].split()[0]

    def _embed_clean(self) -> dict[str, np.ndarray]:
        """Content -> embedding, by a run that nothing disturbs."""
        folder = self.folder / "clean"
        folder.mkdir()
        contents = {key_of(data): data for data in clips()}
        for key, data in contents.items():
            (folder / key).write_bytes(data)
        rows = [{"utterance_id": key, "path": str(folder / key), "language": "und"} for key in contents]
        manifest = jobs.write_manifest(folder / "manifest.tsv", rows)
        conf = jobs.write_conf(folder / "conf.yaml", manifest, folder / "sink")
        pool = ["cluster.num_encoders=1", "cluster.cpus_per_encoder=1", "encoder.device=cpu"]
        driver = Driver(jobs.command(conf, f"cluster.address={self.cluster.address}", *pool), folder / "log")
        if driver.wait() != ExitCode.DONE:
            raise RuntimeError(f"the clean run failed:\n{driver.tail(40)}")
        return jobs.vectors(jobs.table(folder / "sink", "utterances"))
