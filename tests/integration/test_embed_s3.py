"""The job from S3 into S3, through s3fs and delta-rs, against a real endpoint; and no secret left anywhere."""

import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

from w2vb_ray.errors import ExitCode

from . import jobs

Store = fsspec.AbstractFileSystem

CONF = "conf/embed/s3.yaml"  # as it stands in the README
LANGUAGES = ("bel", "eng", "jpn", "ron")
CANARY = "canary-a81f2c-secret"


@pytest.fixture
def environment(clean_aws: None, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Credentials and address where the provider chain looks first."""
    values = {
        "AWS_ACCESS_KEY_ID": "canary",
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def store(endpoint: str) -> Store:
    return fsspec.filesystem("s3", key="canary", secret=CANARY, endpoint_url=endpoint, use_listings_cache=False)


@pytest.fixture
def buckets(store: Store) -> tuple[str, str]:
    """(corpus, sink) bucket names; the corpus holds some of the sample, by language."""
    corpus, sink = f"corpus-{uuid.uuid4().hex[:8]}", f"sink-{uuid.uuid4().hex[:8]}"
    store.mkdir(corpus)
    store.mkdir(sink)
    for row in jobs.sample_rows():
        if row["language"] in LANGUAGES:
            store.pipe_file(f"{corpus}/audio/{row['path']}", (jobs.SAMPLE / row["path"]).read_bytes())
    return corpus, sink


def overrides(corpus: str, sink: str, *more: str) -> list[str]:
    places = [f"source.uri=s3://{corpus}/audio", f"sink.uri=s3://{sink}/tables"]
    return [*places, "encoder.checkpoint=embedded", "cluster.address=local", "plan.unit_utterances=4", *more]


def sink_table(sink: str, name: str, endpoint: str) -> "jobs.pa.Table":
    options = {"key": "canary", "secret": CANARY, "endpoint_url": endpoint, "region": "us-east-1"}
    return jobs.table(f"s3://{sink}/tables", name, **options)


def test_s3_to_s3_survives_a_killed_driver_and_does_only_what_is_new(
    environment: dict[str, str],
    store: Store,
    buckets: tuple[str, str],
    endpoint: str,
    tmp_path: Path,
) -> None:
    corpus, sink = buckets
    expected = [row for row in jobs.sample_rows() if row["language"] in LANGUAGES]
    driver = jobs.start(CONF, tmp_path / "log", *overrides(corpus, sink, "sink.commit_files=1"))
    log = f"{sink}/tables/utterances/_delta_log"

    def batches() -> int:
        store.invalidate_cache()
        logs = store.find(log) if store.exists(log) else []
        return sum(b'"w2vb.kind":"batch"' in store.cat_file(path) for path in logs)

    jobs.wait_until(lambda: batches() >= 1, driver)
    jobs.kill(driver)
    done = jobs.run(CONF, *overrides(corpus, sink))
    assert done.returncode == ExitCode.DONE, done.stderr
    rows = sink_table(sink, "utterances", endpoint)
    assert sorted(rows["audio_uri"].to_pylist()) == sorted(f"s3://{corpus}/audio/{row['path']}" for row in expected)
    assert all(np.isfinite(vector).all() for vector in jobs.vectors(rows).values())

    nothing = jobs.run(CONF, *overrides(corpus, sink))
    assert nothing.returncode == ExitCode.DONE, nothing.stderr
    assert "nothing to do" in nothing.stdout
    store.pipe_file(f"{corpus}/audio/eng/new.ogg", (jobs.SAMPLE / expected[0]["path"]).read_bytes())
    store.pipe_file(f"{corpus}/audio/eng/bad.ogg", b"not audio")
    more = jobs.run(CONF, *overrides(corpus, sink, "sink.max_reject_fraction=0.5"))
    assert more.returncode == ExitCode.DONE, more.stderr
    assert sink_table(sink, "utterances", endpoint).num_rows == len(expected) + 1
    assert sink_table(sink, "rejects", endpoint)["reason"].to_pylist() == ["undecodable"]


def test_secrets_given_in_the_config_are_nowhere_to_be_seen(
    clean_aws: None, store: Store, buckets: tuple[str, str], endpoint: str, tmp_path: Path
) -> None:
    corpus, sink = buckets
    options = f"{{endpoint_url: '{endpoint}', key: canary, secret: {CANARY}, region: us-east-1}}"
    conf = tmp_path / "conf.yaml"
    conf.write_text(
        f"source: {{uri: 's3://{corpus}/audio', language: 'path:{{language}}/', storage: {options}}}\n"
        f"sink: {{uri: 's3://{sink}/tables', storage: {options}}}\n"
    )
    store.pipe_file(f"{corpus}/audio/eng/bad.ogg", b"not audio")
    ray_logs = Path(tempfile.mkdtemp(prefix="w2vb"))  # a short path: sockets have theirs in it
    done = jobs.run(conf, "sink.max_reject_fraction=1", "sink.frames=true", env={"RAY_TMPDIR": str(ray_logs)})
    assert done.returncode == ExitCode.DONE, done.stderr
    shown = jobs.run(conf, "--print-config")
    wrong = jobs.run(conf, f"source.storage.secrt={CANARY}")
    assert wrong.returncode == ExitCode.USER_ERROR
    for output in (done, shown, wrong):
        assert CANARY not in output.stdout + output.stderr
    objects = store.find(sink)
    for kind in ("utterances/_delta_log/", "frames/language=eng", "rejects/language=eng", "config.yaml", "report.html"):
        assert [path for path in objects if kind in path], "everything that a run leaves is looked at"
    assert not [path for path in objects if CANARY.encode() in store.cat_file(path)]
    for name in ("utterances", "frames", "rejects"):  # compressed on disk
        assert CANARY not in str(sink_table(sink, name, endpoint).to_pylist())
    logs = [path for path in ray_logs.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in logs if path.name.startswith("worker-")], "Ray's logs are somewhere else"
    assert not [path for path in logs if CANARY.encode() in path.read_bytes()]
    shutil.rmtree(ray_logs)


def test_a_bucket_that_is_not_there_is_one_clear_line(environment: dict[str, str]) -> None:
    done: subprocess.CompletedProcess[str] = jobs.run(CONF, *overrides("no-such-bucket", "no-such-sink"))
    assert done.returncode == ExitCode.USER_ERROR
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
