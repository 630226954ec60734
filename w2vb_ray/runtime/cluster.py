"""Where Ray runs, and whether the job fits there: one clear message before the work instead of a hang during it."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import ray

from w2vb_ray.config.sections import ClusterSection, EncoderSection
from w2vb_ray.errors import ClusterError
from w2vb_ray.runtime import interrupt

RESERVED_CPUS = 2  # for reading and writing beside the encoders
_ANY_MEMORY = 1
UNITS_PER_ENCODER = 2  # below which another encoder on CPUs is not worth loading the model once more


@dataclass(frozen=True, slots=True)
class EncoderPool:
    """What the encoders take of the cluster, resolved.

    Args:
        size: number of encoder actors.
        device: `cpu` or `cuda`.
        cpus_per_encoder: logical CPUs of one actor.
        gpus_per_encoder: logical GPUs of one actor.
        num_threads: threads its model runs with.
        memory_bytes: memory of one actor, weights included.
    """

    size: int
    device: str
    cpus_per_encoder: int
    gpus_per_encoder: float
    num_threads: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Node:
    """What one alive node offers."""

    cpus: float
    gpus: float
    memory_bytes: float


@interrupt.kept()  # Ray's own handler of SIGTERM leaves with 15
def connect(section: ClusterSection, *, show_workers: bool = True) -> None:
    """Start or join Ray.

    A process that `ray job submit` started always joins the cluster it was submitted to: the same command line runs on
    a laptop and there.

    Args:
        section: where.
        show_workers: whether what workers print comes out here too; it is in Ray's logs in any case.

    Raises:
        ClusterError: nothing answers at `cluster.address`.
    """
    logging.getLogger("ray").setLevel(logging.WARNING)
    # It announces at every start that a local Ray is protected, which is what one wants.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = "auto" if _is_submitted_job() else section.address
    if is_local(section):
        cores = os.cpu_count() or 1
        encoders = section.num_encoders or 1
        cpus_per_encoder = section.cpus_per_encoder or max(1, cores // encoders)
        num_cpus = section.num_cpus or max(cores, encoders * cpus_per_encoder) + RESERVED_CPUS
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=section.num_gpus,
            object_store_memory=section.object_store_bytes,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=show_workers,
        )
        return
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=show_workers)
    except (ConnectionError, RuntimeError, ValueError) as err:
        raise ClusterError(f"no Ray cluster answers at cluster.address={address!r}: {err}") from err


def is_local(section: ClusterSection) -> bool:
    """Whether `connect` starts Ray on this machine instead of joining a cluster."""
    return section.address == "local" and not _is_submitted_job()


def nodes() -> list[Node]:
    """The alive nodes of the connected cluster."""
    offered = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(r.get("CPU", 0.0), r.get("GPU", 0.0), r.get("memory", 0.0)) for r in offered]


def fit_pool(
    cluster: ClusterSection,
    encoder: EncoderSection,
    offered: Sequence[Node],
    memory_bytes: int,
    task_memory_bytes: int,
    num_units: int,
) -> EncoderPool:
    """Resolve the encoder pool against what the nodes offer.

    On CPUs, unless told otherwise, there are as many encoders of one thread as cores, memory and work allow. They do
    not wait for each other at the end of every matrix product, as threads do when something else needs a core.

    Args:
        cluster: what the config asks for.
        encoder: its `device` decides whether encoders take GPUs.
        offered: the alive nodes.
        memory_bytes: memory of one encoder.
        task_memory_bytes: memory of one read and one write task.
        num_units: units of work there are.

    Raises:
        ClusterError: the cluster cannot hold the pool and `RESERVED_CPUS` beside it; says what is missing.
    """
    total_gpus = sum(node.gpus for node in offered)
    device = encoder.device
    if device == "auto":
        device = "cuda" if total_gpus > 0 and cluster.gpus_per_encoder != 0 else "cpu"
    gpus = cluster.gpus_per_encoder if cluster.gpus_per_encoder is not None else float(device == "cuda")
    if device == "cuda" and gpus == 0:
        raise ClusterError("encoder.device is cuda, but cluster.gpus_per_encoder is 0; leave one of them unset")
    if gpus:
        size = cluster.num_encoders or max(1, sum(_shares(node.gpus, gpus) for node in offered))
    else:
        size = cluster.num_encoders or _default_size(
            cluster.cpus_per_encoder or 1, offered, memory_bytes, task_memory_bytes, num_units
        )
    cpus = cluster.cpus_per_encoder or _default_cpus(device, size, offered)
    places = sum(_places(node, cpus, gpus, memory_bytes) for node in offered)
    spare_cpus = sum(node.cpus for node in offered) - size * cpus
    total_memory = sum(node.memory_bytes for node in offered)
    if places < size or spare_cpus < RESERVED_CPUS or total_memory < size * memory_bytes + task_memory_bytes:
        raise ClusterError(
            f"the cluster cannot hold the job: {size} encoder(s) with {cpus} CPU, {gpus:g} GPU and "
            f"{_gib(memory_bytes)} each, and {RESERVED_CPUS} CPU and {_gib(task_memory_bytes)} beside them; "
            f"{len(offered)} node(s) offer {sum(n.cpus for n in offered):g} CPU, {total_gpus:g} GPU and "
            f"{_gib(total_memory)}, room for {places} such encoder(s). Lower cluster.num_encoders or "
            "cluster.cpus_per_encoder, or add nodes"
        )
    return EncoderPool(size, device, cpus, gpus, cpus, memory_bytes)


def check_room(num_workers: int, cpus: int, gpus: int, spare_cpus: int, offered: Sequence[Node]) -> None:
    """Whether workers of Ray Train fit, which would wait for ever for nodes that hold them.

    Args:
        num_workers: there must be.
        cpus: of each.
        gpus: of each.
        spare_cpus: beside them.
        offered: the alive nodes.

    Raises:
        ClusterError: they do not.
    """
    places = sum(_places(node, cpus, gpus, _ANY_MEMORY) for node in offered)
    total_cpus, total_gpus = sum(node.cpus for node in offered), sum(node.gpus for node in offered)
    if places < num_workers or total_cpus - num_workers * cpus < spare_cpus:
        raise ClusterError(
            f"workers.num_workers={num_workers} does not fit: {cpus} CPU and {gpus} GPU each, and {spare_cpus} CPU "
            f"beside them; {len(offered)} node(s) offer {total_cpus:g} CPU and {total_gpus:g} GPU. Lower it, set "
            "workers.min_workers, add nodes, or raise cluster.num_cpus on a local Ray"
        )


def shrunk(pool: EncoderPool, offered: Sequence[Node]) -> EncoderPool:
    """As much of a pool as the nodes hold that are left in the middle of a run, with one CPU beside it.

    Where they hold no encoder at all it stays as it is: nodes that come back will.
    """
    places = sum(_places(node, pool.cpus_per_encoder, pool.gpus_per_encoder, pool.memory_bytes) for node in offered)
    beside = (sum(node.cpus for node in offered) - 1) // pool.cpus_per_encoder
    size = int(min(pool.size, places, beside))
    return replace(pool, size=size) if size >= 1 else pool


def _default_size(cpus: int, offered: Sequence[Node], memory_bytes: int, task_memory_bytes: int, num_units: int) -> int:
    """Encoders on CPUs: at most one for every few units, and one at least, whose fit is checked by the caller."""
    spare_cpus = sum(node.cpus for node in offered) - RESERVED_CPUS
    spare_memory = sum(node.memory_bytes for node in offered) - task_memory_bytes
    places = sum(_places(node, cpus, 0, memory_bytes) for node in offered)
    fitting = min(places, spare_cpus // cpus, spare_memory // memory_bytes)
    return max(1, int(min(fitting, num_units // UNITS_PER_ENCODER)))


def _default_cpus(device: str, size: int, offered: Sequence[Node]) -> int:
    """One CPU feeds a GPU; without one an encoder takes what its node has beside the reserve."""
    if device == "cuda":
        return 1
    working = [node.cpus for node in offered if node.cpus] or [1.0]  # KubeRay's head usually offers none
    per_node = -(-size // len(working))
    return max(1, int(min(working) - RESERVED_CPUS) // per_node)


def _places(node: Node, cpus: int, gpus: float, memory_bytes: int) -> int:
    places = min(node.cpus // cpus, node.memory_bytes // memory_bytes)
    return int(min(places, _shares(node.gpus, gpus)) if gpus else places)


def _shares(whole: float, share: float) -> int:
    """How many shares fit, where ten of 0.1 make one: `1 // 0.1` is 9."""
    return int(whole / share + 1e-6)


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 1024**3:.1f} GiB"


def _is_submitted_job() -> bool:
    config = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return bool(config and json.loads(config).get("metadata", {}).get("job_submission_id"))
