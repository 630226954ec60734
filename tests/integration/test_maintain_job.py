"""Embed, maintain, embed again: the commands of the operations page, on tables that the real job made."""

import re
import shlex
import shutil
from pathlib import Path

import duckdb
import pytest

from jobs import maintain
from w2vb_ray.errors import ExitCode

from . import jobs

NUM_ROWS = 8
OPERATIONS = (jobs.ROOT / "docs/operations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a config, a manifest with speakers, and the tables `sink` of one run."""
    folder = tmp_path_factory.mktemp("maintained")
    rows = [
        {"path": str(jobs.SAMPLE / row["path"]), "language": row["language"], "speaker": f"spk{number % 2}"}
        for number, row in enumerate(jobs.sample_rows()[:NUM_ROWS])
    ]
    (folder / "bad.wav").write_text("not audio")
    rows.append({"path": str(folder / "bad.wav"), "language": "und", "speaker": "spk0"})
    jobs.write_manifest(folder / "manifest.tsv", rows)
    conf = folder / "conf.yaml"
    conf.write_text(f"source:\n  uri: {folder}/manifest.tsv\n  columns: {{audio: path}}\nsink:\n  uri: {folder}/sink\n")
    done = jobs.run(conf, "sink.max_reject_fraction=1", "sink.frames=true", "plan.unit_utterances=2")
    assert done.returncode == ExitCode.DONE, done.stderr
    return folder


@pytest.fixture
def folder(embedded: Path, tmp_path: Path) -> Path:
    shutil.copytree(embedded / "sink", tmp_path / "sink")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert maintain.main([*arguments]) == ExitCode.DONE
    return capsys.readouterr().out


def test_a_speaker_is_forgotten_and_stays_away(
    embedded: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf, sink = str(embedded / "conf.yaml"), f"sink.uri={folder}/sink"
    asked = (conf, sink, "maintain.action=forget", "forget.column=speaker", "forget.values=[spk0]")
    half = NUM_ROWS // 2
    shown = f"rows {half} of utterances, 1 of rejects, {half} of frames"
    assert f"would be erased: {shown}" in run(capsys, *asked)
    assert jobs.table(folder / "sink", "utterances").num_rows == NUM_ROWS
    said = run(capsys, *asked, "maintain.dry_run=false")
    assert f"erased: {shown}" in said
    assert "the audio in the source is not touched" in said
    assert f"\n{half} utterances in " in (folder / "sink/README.md").read_text(encoding="utf-8")

    again = jobs.run(conf, sink, "sink.frames=true")
    assert again.returncode == ExitCode.DONE, again.stderr
    assert f"0 to embed, {NUM_ROWS + 1} unchanged, 0 of them known rejects" in again.stdout
    assert f", {half + 1} of them forgotten" in again.stdout
    assert "nothing to do" in again.stdout
    report = jobs.report(folder / "sink")
    assert (report["input"], report["unchanged"], report["forgotten"]) == (NUM_ROWS + 1, NUM_ROWS + 1, half + 1)
    read = duckdb.sql(f"select distinct speaker from read_parquet('{folder}/sink/utterances/language=*/*.parquet')")
    assert read.fetchall() == [("spk1",)]


def test_every_command_of_the_operations_page(embedded: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = OPERATIONS.replace("\\\n", " ")
    commands = [shlex.split(line) for line in re.findall(r"^    (python -m jobs\.maintain .*)$", page, re.MULTILINE)]
    assert {re.sub(r".*[/=]|\.yaml$", "", word) for words in commands for word in words if "maintain" in word} >= {
        "vacuum",
        "compact",
        "forget",
        "rejects",
    }
    (folder / "ids.txt").write_text("some-id\nanother-id\n")
    places = [f"sink.uri={folder}/sink", f"source.uri={embedded}/manifest.tsv", "source.columns={audio: path}"]
    before = jobs.table(folder / "sink", "utterances")
    for words in commands:
        conf, *overrides = words[3:]
        given = [word.replace("ids.txt", f"{folder}/ids.txt") for word in overrides if not word.startswith("sink.uri")]
        said = run(capsys, conf, *given, *places, "source.language=null")
        assert ("dry run" in said) == ("maintain.dry_run=false" not in given and "rejects.yaml" not in conf)
    assert jobs.ids(jobs.table(folder / "sink", "utterances")) == jobs.ids(before)
