import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import maintain
from tests.unit.maintain.tables import Sink, rows
from w2vb_ray.errors import ConfigError, SinkError

ROOT = Path(__file__).parents[3]
HEAVY = "torch", "ray", "transformers"


@pytest.fixture
def sink(tmp_path):
    sink = Sink(tmp_path / "sink")
    source = [*rows("alpha-utterance", "b", "c"), *rows("refused-one", reason="empty")]
    sink.embed(*source)
    sink.embed(*source, *rows("d"))
    return sink


@pytest.fixture
def said(sink, capsys):
    """Lines that the job prints, given an action's config and overrides."""

    def said(action, *overrides):
        conf = str(ROOT / "conf" / "maintain" / f"{action}.yaml")
        assert maintain.main([conf, f"sink.uri={sink.folder}", *overrides]) == 0
        return capsys.readouterr().out.splitlines()

    return said


DRY = "this was a dry run and nothing has changed; maintain.dry_run=false does it"


def test_compact_then_vacuum(sink, said):
    before = sink.contents()
    assert said("compact")[-1] == DRY
    *_, after = said("compact", "maintain.dry_run=false")
    assert after == "readers of the directories see the rows of the merged files twice until a vacuum deletes these"
    assert said("compact", "maintain.dry_run=false") == ["no small files to merge; the logs were shortened"]
    assert said("vacuum")[0] == "would be deleted: 0 files, 0 B"
    first, *examples, last, dry = said("vacuum", "maintain.retention_h=0")
    assert re.fullmatch(r"would be deleted: \d+ files, \d+\.\d KiB", first)
    assert len(examples) == 3
    assert all(re.match(r"  utterances/language=eng/run\d-\w+\.parquet \(", example) for example in examples)
    assert (last, dry) == ("  …", DRY)
    assert said("vacuum", "maintain.retention_h=0", "maintain.dry_run=false")[0] == first.replace("would be ", "")
    assert sink.contents() == before


def test_forget_leaves_no_word_of_it(sink, said):
    asked = ("forget", "forget.values=[alpha-utterance, refused-one]")
    assert said(*asked)[-1] == DRY
    lines = said(*asked, "maintain.dry_run=false")
    assert lines[0] == "erased: rows 1 of utterances, 1 of rejects, 1 of frames; 0 files of run reports that name them"
    assert lines[2] == "kept away from later runs: 2 ids, URIs and values"
    (report,) = (sink.folder / "_runs").glob("*/report.json")
    found = json.loads(report.read_text())
    assert (found["job"], found["action"], found["rows"]["frames"], found["suppressed"]) == ("maintain", "forget", 1, 2)
    for path in sink.folder.rglob("*"):
        if path.is_file():
            assert b"alpha-utterance" not in path.read_bytes()


def test_rejects_are_shown_and_looking_leaves_no_trace(sink, said):
    state = sink.state()
    shown = "\n".join(said("rejects"))
    assert re.search(r"empty +│ eng +│ 1 +│ /audio/refused-one\.wav: why", shown)
    assert said("rejects", "rejects.languages=[no]") == ["no rejects"]
    assert said("rejects", "rejects.retry=true")[-2:] == ["would be tried again: 1 rejects", DRY]
    assert sink.state() == state
    assert said("rejects", "rejects.retry=true", "maintain.dry_run=false")[-1] == (
        "the next embed run tries again: 1 rejects"
    )
    assert sink.ids()["rejects"] == []


def test_a_sink_without_tables(tmp_path):
    with pytest.raises(SinkError, match=r"there are no tables under sink\.uri \(.*\); set it to where"):
        maintain.main([str(ROOT / "conf/maintain/vacuum.yaml"), f"sink.uri={tmp_path}"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["maintain.action=tidy"], r"maintain\.action: input should be 'vacuum', 'compact', 'forget' or 'rejects'"),
        (
            ["maintain.retention_hours=1"],
            r"retention_hours: unknown option; did you mean 'maintain\.retention_h'",
        ),
        (
            ["maintain.action=forget"],
            r"forget\.values must name what is to be forgotten, but is empty; or set",
        ),
        (["rejects.reasons=[broken]"], r"rejects\.reasons\.0: input should be 'missing', "),
        (["forgot.values=[x]"], "forgot: unknown option; did you mean 'forget'"),
    ],
)
def test_a_mistake_is_one_message(overrides, message):
    with pytest.raises(ConfigError, match=message):
        maintain.main([str(ROOT / "conf/maintain/vacuum.yaml"), *overrides])


def test_the_config_of_an_embed_job_is_one_of_this_job_too(capsys):
    conf = str(ROOT / "conf/embed/frames.yaml")
    assert maintain.main([conf, "maintain.action=forget", "forget.values=[7, no]", "--print-config"]) == 0
    shown = capsys.readouterr().out
    assert "values:\n  - '7'\n  - 'no'\n" in shown
    assert "uri: embeddings" in shown
    assert "encoder" not in shown


def test_help_and_actions_need_neither_torch_nor_ray(sink):
    code = (
        "import sys\n"
        "from jobs import maintain\n"
        f"maintain.main(['conf/maintain/compact.yaml', 'sink.uri={sink.folder}', 'maintain.dry_run=false'])\n"
        f"assert not [name for name in {HEAVY} if name in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "utterances" in done.stdout
