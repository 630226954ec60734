"""The real job on a Kaldi data folder: segments, what its files say, what is refused, and what is too young."""

import os
import shutil
import time
from pathlib import Path

from w2vb_ray.errors import ExitCode

from . import jobs

LONG = "ps_sense_and_sensibility_01_austen_64kb-0870"


def test_a_data_folder(tmp_path: Path) -> None:
    data, sink, owned = tmp_path / "data", tmp_path / "sink", tmp_path / "owned"
    data.mkdir()
    shutil.copy(jobs.SAMPLE / f"eng/{LONG}.wav", data / "a b#%?.wav")
    shutil.copy(jobs.SAMPLE / "deu/num_de_1.ogg", data / "young.ogg")
    past = time.time() - 3600
    os.utime(data / "a b#%?.wav", (past, past))
    (data / "wav.scp").write_text(
        f"r1 cat 'a b#%?.wav' |\nr2 young.ogg\nr3 touch {owned}; cat young.ogg |\nr4 s3://elsewhere/x.wav\n"
    )
    (data / "segments").write_text("u1 r1 0.0 1.0\nu2 r1 1.0 2.0\nu3 r2 0 1\nu4 r3 0 1\nu5 r4 0 1\nu6 r1 0 1 2\n")
    (data / "text").write_text("u1 first\nu2 second words\n")
    (data / "utt2spk").write_text("".join(f"u{i} ann\n" for i in range(1, 7)))
    (data / "utt2lang").write_text("u1 nan\nu2 no\n")
    conf = jobs.write_conf(tmp_path / "conf.yaml", data, sink, "  max_reject_fraction: 1.0\n")

    done = jobs.run(conf, "source.min_age_s=600")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert "5 utterances in 3 languages (kaldi)" in done.stdout
    assert "1 more younger than source.min_age_s wait for the next run" in done.stdout
    rows = {row["utterance_id"]: row for row in jobs.table(sink, "utterances").to_pylist()}
    assert {key: (row["language"], row["text"], row["speaker"]) for key, row in rows.items()} == {
        "u1": ("nan", "first", "ann"),
        "u2": ("no", "second words", "ann"),
    }
    assert {row["duration_s"] for row in rows.values()} == {1.0}
    rejects = {row["utterance_id"]: row["reason"] for row in jobs.table(sink, "rejects").to_pylist()}
    assert rejects == {"u4": "forbidden", "u5": "forbidden", "u6": "undecodable"}
    assert not owned.exists()
    report = jobs.report(sink)
    assert (report["input"], report["embedded"], report["rejected"], report["waiting"]) == (5, 2, 3, 1)

    again = jobs.run(conf, "source.min_age_s=600")  # Ray never starts
    assert again.returncode == ExitCode.DONE, again.stderr
    assert "nothing to do" in again.stdout
    report = jobs.report(sink)
    assert (report["input"], report["unchanged"], report["waiting"]) == (5, 5, 1)
