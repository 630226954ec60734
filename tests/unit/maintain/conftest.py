"""Tables that runs have filled, and maintenance on them."""

import shutil

import pytest

from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed import claim

from .tables import Sink


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(claim.time, "sleep", lambda _: None)


@pytest.fixture
def sink(tmp_path):
    return Sink(tmp_path / "sink")


@pytest.fixture
def filled(sink, template):
    """The sink with a copy of the tables that the module's `template` made."""
    shutil.copytree(template, sink.folder)
    return sink


@pytest.fixture
def config(sink):
    """The config of an action that really does it."""

    def config(action, **sections):
        maintain = {"action": action, "dry_run": False, **sections.pop("maintain", {})}
        return MaintainConfig.model_validate({"maintain": maintain, "sink": {"uri": str(sink.folder)}, **sections})

    return config
