"""The export job as a person runs it, and the embed job on what it wrote."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs import export as job
from tests.integration import jobs
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.errors import UserError

CONF = "conf/export/int8.yaml"
SMALL = ["gate.max_utterances=12"]


def export(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.export", CONF, *SMALL, *overrides]
    return subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "int8"
    done = export(f"export.uri={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"written to {folder}"
    return folder


def test_the_artifact_says_what_it_is(artifact):
    described = json.loads((artifact / "artifact.json").read_text(encoding="utf-8"))
    assert (described["kind"], described["kept"], described["source"]["trained"]) == ("int8", [], True)
    source = resolve_checkpoint(EncoderSection(checkpoint="embedded"))
    assert described["source"]["weights_sha256"] == source.weights_sha256
    assert described["sample"]["utterances"] == 12
    assert described["gate"]["accepted"] == "by its limits"
    measured = described["gate"]["measured"]
    assert all(measured[name] >= limit for name, limit in described["gate"]["limits"].items())
    assert measured["size_ratio"] < 0.3


def test_embed_takes_it_as_a_checkpoint(artifact, tmp_path):
    sinks = {}
    for name, checkpoint in (("floats", "embedded"), ("int8", str(artifact))):
        sinks[name] = tmp_path / name
        done = jobs.run("conf/embed/demo.yaml", f"sink.uri={sinks[name]}", f"encoder.checkpoint={checkpoint}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (", int8" in done.stdout) == (name == "int8")
    floats, int8 = (jobs.vectors(jobs.table(sink, "utterances")) for sink in sinks.values())
    assert floats.keys() == int8.keys()
    cosines = [float(a @ int8[key]) / float(np.linalg.norm(a) * np.linalg.norm(int8[key])) for key, a in floats.items()]
    assert 0.999 < min(cosines) < 0.999999
    mixed = jobs.run("conf/embed/demo.yaml", f"sink.uri={sinks['int8']}", "encoder.checkpoint=embedded")
    assert mixed.returncode == 2
    assert "encoder.checkpoint" in mixed.stderr


def test_below_a_limit_it_is_not_written_unless_accepted(tmp_path):
    strict = ["gate.min_frame_cosine=0.999999", "export.max_kept=0.2"]
    refused = export(f"export.uri={tmp_path / 'refused'}", *strict)
    assert refused.returncode == 5, refused.stdout + refused.stderr
    assert "not written: cosine of a frame, least" in refused.stdout
    assert not (tmp_path / "refused").exists()
    accepted = export(f"export.uri={tmp_path / 'accepted'}", *strict, "export.accept=true")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    described = json.loads((tmp_path / "accepted/artifact.json").read_text(encoding="utf-8"))
    assert described["gate"]["accepted"] == "by export.accept, in spite of min_frame_cosine"
    assert described["kept"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["export.uri={artifact}"], "export.uri must be an empty place"),
        (["export.uri={tmp}", "encoder.checkpoint={artifact}"], "is an artifact already (int8)"),
        (["export.uri={tmp}", "encoder.layers=[1,2]"], "must name the one hidden state"),
        (["export.uri={tmp}", "gate.max_duration_s=0.1"], "must hold at least 2 utterances of up to 0.1 s"),
        (["export.uri={tmp}", "source.uri={tmp}/none"], "none"),
        (["export.uri={tmp}", "export.kind=int4"], "export.kind"),
    ],
)
@pytest.mark.usefixtures("at_root")
def test_one_clear_error(overrides, message, artifact, tmp_path):
    places = {"artifact": artifact, "tmp": tmp_path / "new"}
    with pytest.raises(UserError, match=re.escape(message)):
        job.main([CONF, *SMALL, *(one.format(**places) for one in overrides)])


def test_a_mistake_is_exit_2(artifact):
    done = export(f"export.uri={artifact}")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "export.uri must be an empty place" in done.stderr
