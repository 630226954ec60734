import json
from dataclasses import replace

import pytest

from w2vb_ray.config.sections import ClusterSection, EncoderSection
from w2vb_ray.errors import ClusterError
from w2vb_ray.runtime import cluster
from w2vb_ray.runtime.cluster import EncoderPool, Node, check_room, fit_pool, shrunk

GIB = 1024**3
LAPTOP = Node(cpus=10, gpus=0, memory_bytes=32 * GIB)
SMALL = Node(cpus=4, gpus=0, memory_bytes=8 * GIB)
HEAD = Node(cpus=0, gpus=0, memory_bytes=8 * GIB)  # KubeRay's usual head: no work there
GPU = Node(cpus=16, gpus=1, memory_bytes=64 * GIB)
GPUS = Node(cpus=32, gpus=4, memory_bytes=256 * GIB)


def fit(offered, device="auto", memory_gib=2, task_gib=1, num_units=1, **section):
    return fit_pool(
        ClusterSection(**section),
        EncoderSection(device=device),
        offered,
        memory_bytes=memory_gib * GIB,
        task_memory_bytes=task_gib * GIB,
        num_units=num_units,
    )


def shape(pool: EncoderPool):
    return pool.size, pool.device, pool.cpus_per_encoder, pool.gpus_per_encoder


@pytest.mark.parametrize(
    ("offered", "asked", "expected"),
    [
        ([LAPTOP], {}, (1, "cpu", 8, 0)),
        ([LAPTOP], {"num_encoders": 2}, (2, "cpu", 4, 0)),
        ([LAPTOP], {"num_encoders": 3}, (3, "cpu", 2, 0)),
        ([LAPTOP], {"num_encoders": 8}, (8, "cpu", 1, 0)),
        ([LAPTOP], {"cpus_per_encoder": 3}, (1, "cpu", 3, 0)),
        ([SMALL, LAPTOP], {}, (1, "cpu", 2, 0)),
        ([SMALL, SMALL], {"num_encoders": 2}, (2, "cpu", 2, 0)),
        ([HEAD, LAPTOP], {}, (1, "cpu", 8, 0)),
        ([HEAD, LAPTOP], {"num_encoders": 2}, (2, "cpu", 4, 0)),
        ([HEAD, SMALL, SMALL], {"num_encoders": 2}, (2, "cpu", 2, 0)),
        ([GPU], {}, (1, "cuda", 1, 1)),
        ([GPUS], {}, (4, "cuda", 1, 1)),
        ([HEAD, GPUS, GPU, LAPTOP], {}, (5, "cuda", 1, 1)),
        ([GPUS], {"num_encoders": 2}, (2, "cuda", 1, 1)),
        ([GPUS], {"cpus_per_encoder": 4}, (4, "cuda", 4, 1)),
        ([GPUS], {"gpus_per_encoder": 2}, (2, "cuda", 1, 2)),
        ([GPU], {"device": "cpu"}, (1, "cpu", 14, 0)),
        ([GPU], {"gpus_per_encoder": 0}, (1, "cpu", 14, 0)),
        ([GPU], {"device": "cuda"}, (1, "cuda", 1, 1)),
    ],
)
def test_the_pool_is_what_the_cluster_holds(offered, asked, expected):
    pool = fit(offered, **asked)
    assert shape(pool) == expected
    assert (pool.num_threads, pool.memory_bytes) == (pool.cpus_per_encoder, 2 * GIB)


@pytest.mark.parametrize(
    ("offered", "asked", "expected"),
    [
        ([LAPTOP], {"num_units": 100}, (8, 1)),
        ([LAPTOP], {"num_units": 7}, (3, 2)),  # little work
        ([LAPTOP], {"num_units": 100, "memory_gib": 5}, (6, 1)),  # 31 GiB beside a task
        ([LAPTOP], {"num_units": 100, "cpus_per_encoder": 3}, (2, 3)),
        ([LAPTOP], {"num_units": 100, "num_encoders": 1}, (1, 8)),
        ([SMALL, LAPTOP], {"num_units": 100}, (12, 1)),
        ([HEAD, SMALL], {"num_units": 100}, (2, 1)),
        ([GPUS], {"num_units": 100, "device": "cpu"}, (30, 1)),
    ],
)
def test_without_gpus_encoders_of_one_thread_fill_the_cores(offered, asked, expected):
    pool = fit(offered, **asked)
    assert (pool.size, pool.cpus_per_encoder) == expected


@pytest.mark.parametrize(("share", "size"), [(0.5, 2), (0.25, 4), (0.2, 5), (0.1, 10), (0.3, 3), (0.7, 1)])
def test_encoders_share_a_gpu(share, size):
    assert shape(fit([GPU], gpus_per_encoder=share)) == (size, "cuda", 1, share)


@pytest.mark.parametrize(("share", "size"), [(0.6, 2), (0.4, 4), (0.1, 20)])
def test_an_encoder_does_not_span_nodes(share, size):
    assert shape(fit([GPU, GPU], gpus_per_encoder=share)) == (size, "cuda", 1, share)


@pytest.mark.parametrize(
    ("offered", "asked", "numbers"),
    [
        ([Node(2, 0, 8 * GIB)], {}, ["1 encoder(s) with 1 CPU, 0 GPU", "1 node(s) offer 2 CPU"]),
        ([LAPTOP], {"num_encoders": 9}, ["9 encoder(s) with 1 CPU", "room for 10 such"]),
        ([LAPTOP], {"num_encoders": 2, "cpus_per_encoder": 6}, ["2 encoder(s) with 6 CPU", "room for 1 such"]),
        (
            [SMALL, SMALL],
            {"cpus_per_encoder": 5},
            ["1 encoder(s) with 5 CPU", "2 node(s) offer 8 CPU", "room for 0 such"],
        ),
        ([LAPTOP], {"device": "cuda"}, ["1 encoder(s) with 1 CPU, 1 GPU", "0 GPU and 32.0 GiB", "room for 0 such"]),
        ([GPUS], {"num_encoders": 5}, ["5 encoder(s)", "4 GPU", "room for 4 such"]),
        ([GPU, GPU], {"gpus_per_encoder": 2}, ["2 GPU and 2.0 GiB each", "room for 0 such"]),
        ([LAPTOP], {"memory_gib": 33}, ["33.0 GiB each", "offer 10 CPU, 0 GPU and 32.0 GiB", "room for 0 such"]),
        ([LAPTOP], {"memory_gib": 30, "task_gib": 3}, ["30.0 GiB each", "3.0 GiB beside them", "room for 1 such"]),
        ([], {}, ["0 node(s) offer 0 CPU", "room for 0 such"]),
    ],
)
def test_a_cluster_that_is_too_small_is_told_in_numbers(offered, asked, numbers):
    with pytest.raises(ClusterError) as caught:
        fit(offered, **asked)
    assert [number for number in numbers if number not in str(caught.value)] == []
    assert "Lower cluster.num_encoders or cluster.cpus_per_encoder, or add nodes" in str(caught.value)


def test_cuda_without_a_gpu_share_is_a_contradiction():
    with pytest.raises(ClusterError, match=r"encoder\.device is cuda, but cluster\.gpus_per_encoder is 0"):
        fit([GPU], device="cuda", gpus_per_encoder=0)


@pytest.fixture
def ray_calls(monkeypatch):
    calls = []
    monkeypatch.setattr(cluster.ray, "init", lambda **options: calls.append(options))
    monkeypatch.setattr(cluster.os, "cpu_count", lambda: 6)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    return calls


@pytest.mark.parametrize(
    ("section", "num_cpus"),
    [
        ({}, 8),
        ({"num_encoders": 2}, 8),
        ({"num_encoders": 8}, 10),
        ({"num_encoders": 2, "cpus_per_encoder": 1}, 8),
        ({"cpus_per_encoder": 9}, 11),
        ({"num_cpus": 3}, 3),
    ],
)
def test_a_local_ray_has_room_for_the_job(ray_calls, section, num_cpus):
    cluster.connect(ClusterSection(**section))
    assert (ray_calls[0]["address"], ray_calls[0]["num_cpus"]) == ("local", num_cpus)


def test_a_submitted_job_joins_its_cluster(ray_calls, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    cluster.connect(ClusterSection(address="local"))
    assert ray_calls[0]["address"] == "auto"


@pytest.mark.parametrize("content", ["", "{}", '{"metadata": {}}'])
def test_other_processes_of_ray_are_no_submitted_jobs(ray_calls, monkeypatch, content):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", content)
    cluster.connect(ClusterSection(address="ray://head:10001"))
    assert ray_calls[0]["address"] == "ray://head:10001"


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, ValueError])
def test_a_cluster_that_does_not_answer(monkeypatch, error):
    def refuse(**_):
        raise error("nobody there")

    monkeypatch.setattr(cluster.ray, "init", refuse)
    with pytest.raises(
        ClusterError, match=r"no Ray cluster answers at cluster\.address='10\.0\.0\.1:6379': nobody there"
    ):
        cluster.connect(ClusterSection(address="10.0.0.1:6379"))


def test_only_alive_nodes_count(monkeypatch):
    listed = [
        {"Alive": True, "Resources": {"CPU": 4.0, "memory": 5.0}},
        {"Alive": False, "Resources": {"CPU": 9.0}},
        {"Alive": True, "Resources": {"GPU": 1.0}},
    ]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: listed)
    assert cluster.nodes() == [Node(4.0, 0.0, 5.0), Node(0.0, 1.0, 0.0)]


@pytest.mark.parametrize(
    ("offered", "left", "size"),
    [
        ([HEAD, SMALL, SMALL], [HEAD, SMALL, SMALL], 2),
        ([HEAD, SMALL, SMALL], [HEAD, SMALL], 1),
        ([HEAD, SMALL, SMALL], [HEAD, LAPTOP], 2),
        ([HEAD, GPUS, GPU], [HEAD, GPUS], 4),
        ([HEAD, GPUS, GPU], [HEAD, GPU], 1),
        ([HEAD, GPUS, GPU], [HEAD, LAPTOP], 5),
    ],
    ids=["all", "half", "half, but larger", "some GPUs", "one GPU", "no GPU: it waits"],
)
def test_a_pool_shrinks_to_what_is_left_and_waits_where_that_is_nothing(offered, left, size):
    pool = fit(offered, num_encoders=None if GPU in offered else 2)
    assert shrunk(pool, left) == replace(pool, size=size)


def test_an_encoder_may_not_take_the_last_cpu():
    two = [Node(cpus=2, gpus=0, memory_bytes=8 * GIB)] * 2
    pool = fit(two, num_encoders=2, cpus_per_encoder=1)
    assert shrunk(pool, two[:1]).size == 1


@pytest.mark.parametrize(
    ("num_workers", "cpus", "gpus", "spare_cpus", "nodes"),
    [
        (2, 2, 0, 0, [(2, 0), (3, 0)]),
        (4, 1, 1, 1, [(5, 4)]),
        (2, 1, 1, 1, [(1, 1), (1, 1), (1, 0)]),
    ],
)
def test_training_workers_that_fit(num_workers, cpus, gpus, spare_cpus, nodes):
    check_room(num_workers, cpus, gpus, spare_cpus, [Node(float(c), float(g), 1e9) for c, g in nodes])


@pytest.mark.parametrize(
    ("num_workers", "cpus", "gpus", "spare_cpus", "nodes"),
    [
        (3, 2, 0, 0, [(3, 0), (3, 0)]),  # six CPUs, and no third place for two of them
        (2, 1, 1, 1, [(9, 1)]),
        (4, 1, 1, 1, [(4, 4)]),  # none is left to read with
        (1, 2, 0, 0, []),
    ],
)
def test_training_workers_that_do_not_fit(num_workers, cpus, gpus, spare_cpus, nodes):
    with pytest.raises(ClusterError, match=rf"workers\.num_workers={num_workers} does not fit: {cpus} CPU"):
        check_room(num_workers, cpus, gpus, spare_cpus, [Node(float(c), float(g), 1e9) for c, g in nodes])
