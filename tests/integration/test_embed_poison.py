"""A recording that kills every worker that touches it, and an encoder that hangs: one row is lost, or none."""

from pathlib import Path

from w2vb_ray.errors import ExitCode

from . import jobs
from .killer import killer


def test_the_one_recording_that_kills_workers_is_found_and_rejected(tmp_path: Path) -> None:
    rows = [{**row, "path": str(jobs.SAMPLE / row["path"])} for row in jobs.sample_rows()[:32]]
    for index, row in enumerate(rows):
        row["utterance_id"] = f"u{index}"
    with killer(Path(rows[17]["path"])) as deadly:
        rows[17]["path"] = deadly.uri
        manifest = jobs.write_manifest(tmp_path / "manifest.tsv", rows)
        more = "  max_reject_fraction: 0.05\nplan: {unit_utterances: 8}\n"
        conf = jobs.write_conf(tmp_path / "conf.yaml", manifest, tmp_path / "sink", more)
        done = jobs.run(conf, f"source.allowed_uris=[{deadly.uri}]")
    assert done.returncode == ExitCode.DONE, done.stderr
    (reject,) = jobs.table(tmp_path / "sink", "rejects").to_pylist()
    assert (reject["utterance_id"], reject["reason"]) == ("u17", "worker_crash")
    assert "2 workers died or hung in the read stage" in reject["detail"]
    assert jobs.ids(jobs.table(tmp_path / "sink", "utterances")) == sorted(
        row["utterance_id"] for row in rows if row["utterance_id"] != "u17"
    )
    report = jobs.report(tmp_path / "sink")
    assert report["input"] == report["embedded"] + report["rejected"] + report["unchanged"] == 32
    assert report["retries"]["worker_deaths"] == deadly.num_killed


def test_a_stopped_encoder_is_ended_and_costs_nothing(tmp_path: Path) -> None:
    """SIGSTOP stops every thread of the process; in a store as small as Ray allows."""
    rows = [
        {"utterance_id": f"{copy}-{row['path']}", **row, "path": str(jobs.SAMPLE / row["path"])}
        for copy in range(6)
        for row in jobs.sample_rows()
    ]
    manifest = jobs.write_manifest(tmp_path / "manifest.tsv", rows)
    more = "plan: {unit_utterances: 8}\ncluster: {unit_timeout_s: 15, object_store_bytes: 80000000}\n"
    conf = jobs.write_conf(tmp_path / "conf.yaml", manifest, tmp_path / "sink", more)
    driver = jobs.start(conf, tmp_path / "log")
    # The first files, long before the first commit: nearly everything is still to be encoded.
    jobs.wait_until(lambda: any((tmp_path / "sink/utterances").glob("language=*/*.parquet")), driver)
    loaded = [e for e in jobs.encoder_processes(driver.pid) if "__init__" not in " ".join(e.cmdline())]
    loaded[0].suspend()
    assert driver.wait(timeout=200) == ExitCode.DONE, (tmp_path / "log").read_text()
    assert jobs.ids(jobs.table(tmp_path / "sink", "utterances")) == sorted(row["utterance_id"] for row in rows)
    assert jobs.table(tmp_path / "sink", "rejects").num_rows == 0
    assert jobs.report(tmp_path / "sink")["retries"]["hung_workers"] >= 1
