"""Who holds a run's folder, and who may take it."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.pretrain.small import config
from w2vb_ray.embed.holder import Holder, started_at
from w2vb_ray.errors import TableHeld
from w2vb_ray.pretrain import hold
from w2vb_ray.pretrain.hold import Hold


@pytest.fixture
def run(tmp_path):
    made = config()
    return made.model_copy(update={"pretrain": made.pretrain.model_copy(update={"uri": str(tmp_path / "run")})})


def leave(run, lease_s=300, **changes):
    """What another run would have left."""
    holder(run).parent.mkdir(exist_ok=True)
    own = json.loads(Holder.this_process().to_json())
    claim = {"holder": {**own, **changes}, "expires_ms": int((time.time() + lease_s) * 1_000)}
    holder(run).write_text(json.dumps(claim), encoding="utf-8")


def stored(run):
    return json.loads(holder(run).read_text(encoding="utf-8"))


def holder(run):
    return Path(run.pretrain.uri) / "holder.json"


def test_it_is_there_while_the_block_lasts(run):
    with Hold(run):
        assert stored(run)["holder"]["pid"] == os.getpid()
    assert not holder(run).exists()


def test_a_live_process_keeps_it(run):
    with subprocess.Popen(["sleep", "60"]) as other:
        leave(run, lease_s=-10, pid=other.pid, started=started_at(other.pid))
        with pytest.raises(TableHeld, match=f"process {other.pid}, trains in .*run/; wait for it"), Hold(run):
            pass
        other.kill()
    with Hold(run):
        pass


def test_elsewhere_only_the_lease_tells(run):
    leave(run, host="far", boot="other")
    with pytest.raises(TableHeld, match="far, process"), Hold(run):
        pass
    leave(run, lease_s=-1, host="far", boot="other")
    with Hold(run):
        pass


def test_it_is_renewed(run, monkeypatch):
    monkeypatch.setattr(hold, "_RENEW_S", 0.02)
    with Hold(run):
        first = stored(run)["expires_ms"]
        deadline = time.monotonic() + 10
        while stored(run)["expires_ms"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
