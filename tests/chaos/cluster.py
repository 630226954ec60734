"""A Ray cluster of several nodes on this machine, whose processes can be killed."""

import os
import secrets
import tempfile
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
NUM_NODES = 2
_GIB = 1024**3
# Two drivers at a time, each with an encoder and room to read and write beside it.
_NODE = {"num_cpus": 2, "memory": 6 * _GIB, "object_store_memory": 150 * 1024**2}
_HEAD = {"num_cpus": 0, "memory": _GIB, "object_store_memory": 100 * 1024**2, "include_dashboard": False}
ENCODER, WORKERS = ("EncodeUnits",), ("read_units", "write_units")


class RayCluster:
    """A head without work and `NUM_NODES` nodes with some; must live in the main thread."""

    def __init__(self) -> None:
        # Its own folder and token, so that it and another Ray of this machine do not find each other.
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-ray-", dir="/tmp", ignore_cleanup_errors=True)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        os.environ |= {**token, "RAY_TMPDIR": self._folder.name, "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ["PYTHONPATH"] = str(ROOT)
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=_HEAD)
        self.mend()

    @property
    def address(self) -> str:
        return self._cluster.address

    def mend(self) -> None:
        """Start nodes in the place of those that were killed, and take back what was lent."""
        while len(self._cluster.worker_nodes) < NUM_NODES:
            self.lend()
        while len(self._cluster.worker_nodes) > NUM_NODES:
            self._cluster.remove_node(next(iter(self._cluster.worker_nodes)), allow_graceful=False)

    def lend(self) -> None:
        """One more node: a driver that stands still gives nothing back of what it has leased, which may be all."""
        self._cluster.add_node(**_NODE)

    def kill_node(self) -> bool:
        """Kill the raylet of the node that has an encoder, and with it all of its processes."""
        nodes = sorted(self._cluster.worker_nodes, key=lambda node: -len(self._processes(node, ENCODER)))
        self._cluster.remove_node(nodes[0], allow_graceful=False)
        return True

    def kill_process(self, titles: tuple[str, ...]) -> bool:
        """Kill one worker process whose title holds one of the texts; False when there is none."""
        found = [process for node in self._cluster.worker_nodes for process in self._processes(node, titles)]
        for process in found[:1]:
            process.kill()
        return bool(found)

    def close(self) -> None:
        self._cluster.shutdown()
        self._folder.cleanup()

    def _processes(self, node: object, titles: tuple[str, ...]) -> list[psutil.Process]:
        raylet = node.all_processes["raylet"][0].process.pid  # type: ignore[attr-defined]
        found = []
        for process in psutil.Process(raylet).children(recursive=True):
            try:
                title = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if any(text in title for text in titles):
                found.append(process)
        return found
