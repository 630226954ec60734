"""Processes die: the driver, an encoder, two drivers at once. Every utterance is embedded once all the same."""

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from w2vb_ray.errors import ExitCode

from . import jobs

COPIES = 6  # of the sample, under other ids: enough units for a run to be caught in the middle
MORE = "  commit_files: 2\nplan: {unit_utterances: 8}\n"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"utterance_id": f"{copy}-{row['path']}", **row, "path": str(jobs.SAMPLE / row["path"])}
        for copy in range(COPIES)
        for row in jobs.sample_rows()
    ]
    return jobs.write_manifest(tmp_path_factory.mktemp("manifest") / "manifest.tsv", rows)


@pytest.fixture(scope="module")
def clean(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Embeddings of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("clean")
    conf = jobs.write_conf(folder / "conf.yaml", manifest, folder / "sink")
    done = jobs.run(conf)
    assert done.returncode == ExitCode.DONE, done.stderr
    return jobs.vectors(jobs.table(folder / "sink", "utterances"))


def assert_each_once(sink: Path, clean: dict[str, np.ndarray]) -> None:
    """The clean run's ids and embeddings: 1e-4 as a whole, and no value further off than the last bit that is kept.

    Tables keep 10 mantissa bits, so a value beside an edge may go to the other side in other company. That is rare,
    but in a short vector a single one can be 1.2e-4 of its norm.
    """
    rows = jobs.table(sink, "utterances")
    assert jobs.ids(rows) == sorted(clean)
    embedded = jobs.vectors(rows)
    expected = np.stack([clean[key] for key in sorted(clean)])
    difference = np.stack([embedded[key] for key in sorted(clean)]) - expected
    assert np.linalg.norm(difference) <= 1e-4 * np.linalg.norm(expected)
    assert (np.abs(difference) <= 2**-10 * np.abs(expected) + 1e-6).all()


@pytest.fixture
def running(manifest: Path, tmp_path: Path) -> tuple[Path, Path, "subprocess.Popen[bytes]"]:
    """(conf, sink, driver) of a job that has committed something and has more to do."""
    conf = jobs.write_conf(tmp_path / "conf.yaml", manifest, tmp_path / "sink", MORE)
    driver = jobs.start(conf, tmp_path / "log")
    jobs.wait_until(lambda: jobs.num_batches(tmp_path / "sink") >= 2, driver)
    yield conf, tmp_path / "sink", driver
    if driver.poll() is None:
        driver.kill()
        driver.wait()


def test_killed_driver_resumes_and_a_second_driver_is_refused(running, clean: dict[str, np.ndarray]) -> None:
    conf, sink, driver = running
    second = jobs.run(conf)
    assert second.returncode == ExitCode.TABLE_HELD, second.stderr
    assert f"process {driver.pid}" in second.stderr
    assert jobs.kill(driver) == -signal.SIGKILL
    committed = jobs.table(sink, "utterances").num_rows
    assert 0 < committed < len(clean)

    done = jobs.run(conf)
    assert done.returncode == ExitCode.DONE, done.stderr
    report = jobs.report(sink)
    assert report["unchanged"] == committed
    assert report["embedded"] == len(clean) - committed
    assert_each_once(sink, clean)


def test_killed_encoder_costs_nothing(running, clean: dict[str, np.ndarray]) -> None:
    _, sink, driver = running
    encoder = jobs.encoder_processes(driver.pid)[0]
    encoder.kill()
    assert driver.wait(timeout=200) == ExitCode.DONE
    assert_each_once(sink, clean)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_between_commits_and_the_next_run_need_not_wait(
    running, clean: dict[str, np.ndarray], sent: signal.Signals
) -> None:
    conf, sink, driver = running
    assert jobs.kill(driver, sent) == ExitCode.INTERRUPTED
    assert jobs.report(sink)["status"] == "interrupted"
    assert "Traceback" not in (sink.parent / "log").read_text(), "Ray Data is left in the middle, and says so"
    done = jobs.run(conf)
    assert done.returncode == ExitCode.DONE, done.stderr
    assert_each_once(sink, clean)
