import pytest
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from w2vb_ray.embed.stream import is_loss

BUG = RayTaskError("read_units", "Traceback ...", ValueError("a bug"))


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashedError(),
        ActorDiedError(),
        ActorUnavailableError("socket closed", None),
        NodeDiedError("gone"),
        ObjectLostError("00" * 28, None, ""),
        OutOfMemoryError("killed by the monitor"),
        ExecutionTimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_cluster_lost_is_run_again(error):
    assert is_loss(error)


@pytest.mark.parametrize("error", [ValueError(), BUG, BUG.as_instanceof_cause(), ActorDiedError.from_task_error(BUG)])
def test_what_our_own_code_raised_is_not(error):
    assert not is_loss(error)
