"""The real job on real speech, local Ray and local files: what lands, what is refused, what a second run does."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import soundfile
import soxr
import torch
from deltalake import DeltaTable
from rich.console import Console
from transformers import AutoFeatureExtractor, AutoModel

from w2vb_ray import schema
from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.embed.run import EmbedRun
from w2vb_ray.encoder import load_encoder, resolve_checkpoint
from w2vb_ray.errors import ExitCode

from . import jobs

FAKE_GPU = ("cluster.num_gpus=1", "cluster.gpus_per_encoder=1", "encoder.device=cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as folders by language, and one bad file of several kinds."""
    root = tmp_path_factory.mktemp("corpus")
    for row in jobs.sample_rows():
        (root / row["language"]).mkdir(exist_ok=True)
        shutil.copy(jobs.SAMPLE / row["path"], root / row["path"])
    bad = root / "eng"
    (bad / "empty.wav").write_bytes(b"")
    (bad / "text.mp3").write_text("<Error><Code>NoSuchKey</Code></Error>")
    whole = (root / "bel/tp_animals-birds-owl.ogg").read_bytes()
    (bad / "cut.ogg").write_bytes(whole[: len(whole) * 2 // 3])
    soundfile.write(bad / "short.wav", np.zeros(300, np.int16), 16_000)
    samples = np.zeros(16_000, np.float32)
    samples[800] = np.nan
    soundfile.write(bad / "nan.wav", samples, 16_000, subtype="FLOAT")
    tone = np.sin(np.arange(40 * 8_000) * 2 * np.pi * 440 / 8_000) * 8_000
    soundfile.write(bad / "long.wav", tone.astype(np.int16), 8_000)  # longer than one window
    return root


BAD = {
    "empty.wav": "empty",
    "text.mp3": "undecodable",
    "cut.ogg": "truncated",
    "short.wav": "too_short",
    "nan.wav": "non_finite",
}


@pytest.fixture(scope="module")
def embedded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(conf, sink, output) of one run with frames on a logical GPU."""
    folder = tmp_path_factory.mktemp("run")
    more = "  frames: true\n  max_reject_fraction: 0.1\nplan: {unit_utterances: 5}\n"
    conf = jobs.write_conf(folder / "conf.yaml", corpus, folder / "sink", more)
    done = jobs.run(conf, "source.language=path:{language}/", *FAKE_GPU)
    assert done.returncode == ExitCode.DONE, done.stderr
    return conf, folder / "sink", done.stdout


def test_every_utterance_is_embedded_or_rejected_with_its_reason(embedded: tuple[Path, Path, str]) -> None:
    _, sink, output = embedded
    utterances, rejects = jobs.table(sink, "utterances"), jobs.table(sink, "rejects")
    assert utterances.num_rows == len(jobs.sample_rows()) + 1
    assert len(set(jobs.ids(utterances))) == utterances.num_rows
    reasons = {Path(row["audio_uri"]).name: row["reason"] for row in rejects.to_pylist()}
    assert reasons == BAD
    assert set(utterances["language"].to_pylist()) == {row["language"] for row in jobs.sample_rows()}
    assert "UNTRAINED" not in output
    report = jobs.report(sink)
    assert report["input"] == report["embedded"] + report["rejected"] + report["unchanged"] == utterances.num_rows + 5
    assert report["trained"] is True


def test_tables_have_the_contract_columns(embedded: tuple[Path, Path, str]) -> None:
    _, sink, _ = embedded
    utterances, frames = jobs.table(sink, "utterances"), jobs.table(sink, "frames")
    assert utterances.column_names == schema.utterances_schema(schema.Vectors([4]), pa.schema([])).names
    assert frames.column_names == schema.frames_schema(schema.Vectors([4])).names
    assert jobs.ids(frames) == jobs.ids(utterances)
    one = {row["utterance_id"]: row for row in frames.to_pylist()}
    for row in utterances.to_pylist():
        matrix = np.array(one[row["utterance_id"]]["frames"], np.float32)
        assert matrix.shape == (row["num_frames"], len(row["embedding"]))
        difference = np.linalg.norm(matrix.mean(0) - row["embedding"])
        assert difference < 1e-3 * np.linalg.norm(row["embedding"]), "pooled is the mean over all stitched frames"


def test_long_recordings_give_one_vector_over_their_whole_length(embedded: tuple[Path, Path, str]) -> None:
    _, sink, _ = embedded
    long = next(r for r in jobs.table(sink, "utterances").to_pylist() if r["audio_uri"].endswith("long.wav"))
    assert long["sampling_rate"] == 8_000
    assert long["duration_s"] == pytest.approx(40.0)
    assert long["num_frames"] == 1999  # (640000 - 400) // 160 + 1 hops of 10 ms, two to a frame


def test_vectors_are_those_of_the_encoder_alone(embedded: tuple[Path, Path, str], corpus: Path) -> None:
    conf, sink, _ = embedded
    config = load_config(EmbedConfig, str(conf))
    encoder = load_encoder(config.encoder, config.pooling, config.batching, config.audio)
    rows = {row["audio_uri"]: row for row in jobs.table(sink, "utterances").to_pylist()}
    wav, rate = soundfile.read(corpus / "eng/ps_sense_and_sensibility_01_austen_64kb-0870.wav", dtype="int16")
    assert rate == 16_000
    expected = encoder.encode([wav])[0].pooled[0]
    found = np.array(rows[str(corpus / "eng/ps_sense_and_sensibility_01_austen_64kb-0870.wav")]["embedding"])
    assert np.linalg.norm(found - expected) < 5e-4 * np.linalg.norm(expected), "only the stored rounding is between"


def test_vectors_are_those_of_plain_transformers(embedded: tuple[Path, Path, str], corpus: Path) -> None:
    """From the file to the table: soundfile, soxr, transformers' extractor and model, mean over the real frames."""
    conf, sink, _ = embedded
    checkpoint = resolve_checkpoint(load_config(EmbedConfig, str(conf)).encoder)
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint.path)
    model = AutoModel.from_pretrained(checkpoint.path).eval()
    rows = {row["audio_uri"]: row for row in jobs.table(sink, "utterances").to_pylist()}
    for file in [*sorted((corpus / "ron").iterdir())[:5], *sorted((corpus / "kor").iterdir())]:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        waveform = soxr.resample(samples.mean(axis=1), rate, 16_000, quality="HQ")
        inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state[0]
        expected = hidden[inputs["attention_mask"][0].bool()].mean(dim=0).numpy()
        found = np.array(rows[str(file)]["embedding"], np.float32)
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected), file.name


def test_nothing_new_is_nothing_to_do_and_starts_no_ray(
    embedded: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, sink, _ = embedded

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started for nothing")

    monkeypatch.setattr(ray, "init", refuse)
    config = load_config(EmbedConfig, str(conf), ["source.language=path:{language}/", "encoder.device=cpu"])
    assert EmbedRun(config, Console(quiet=True)).run() == ExitCode.DONE
    report = jobs.report(sink)
    assert (report["embedded"], report["rejected"], report["known_rejects"]) == (0, 0, 5)
    assert report["unchanged"] == report["input"]


def test_another_model_is_refused_with_the_settings_that_differ(embedded: tuple[Path, Path, str]) -> None:
    conf, _, _ = embedded
    done = jobs.run(conf, "encoder.layers=[2]", "pooling.method=max")
    assert done.returncode == ExitCode.USER_ERROR
    assert "encoder.layers (table: [4], this run: [2])" in done.stderr
    assert "pooling.method" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_rejects_than_allowed_exits_6_and_keeps_the_rest(corpus: Path, tmp_path: Path) -> None:
    conf = jobs.write_conf(tmp_path / "conf.yaml", corpus / "eng", tmp_path / "sink")
    done = jobs.run(conf, "source.language=eng")
    assert done.returncode == ExitCode.TOO_MANY_REJECTS, done.stderr
    assert jobs.table(tmp_path / "sink", "utterances").num_rows == 15
    assert jobs.run(conf, "source.language=eng").returncode == ExitCode.DONE, "known rejects are nothing to do"


def test_five_changed_and_five_added_files_are_exactly_ten(corpus: Path, tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    shutil.copytree(corpus / "fra", source / "fra")
    shutil.copytree(corpus / "spa", source / "spa")
    conf = jobs.write_conf(tmp_path / "conf.yaml", source, tmp_path / "sink")
    language = "source.language=path:{language}/"
    assert jobs.run(conf, language).returncode == ExitCode.DONE
    before = jobs.table(tmp_path / "sink", "utterances")
    first_version = DeltaTable(str(tmp_path / "sink/utterances")).version()

    changed = sorted((source / "fra").iterdir())[:5]
    for file, other in zip(changed, sorted((corpus / "rus").iterdir()), strict=False):
        shutil.copy(other, file)
    for other in sorted((corpus / "ell").iterdir())[:5]:
        shutil.copy(other, source / "spa" / f"new-{other.name}")
    done = jobs.run(conf, language, "sink.commit_files=1")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert jobs.report(tmp_path / "sink")["embedded"] == 10

    after = jobs.table(tmp_path / "sink", "utterances")
    assert after.num_rows == before.num_rows + 5
    assert len(set(jobs.ids(after))) == after.num_rows
    old, new = jobs.vectors(before), jobs.vectors(after)
    uris = dict(zip(after["utterance_id"].to_pylist(), after["audio_uri"].to_pylist(), strict=True))
    rewritten = {uris[key] for key in old if not np.array_equal(old[key], new[key])}
    assert rewritten == {str(file) for file in changed}
    for version in range(first_version, DeltaTable(str(tmp_path / "sink/utterances")).version() + 1):
        seen = jobs.ids(jobs.table(tmp_path / "sink", "utterances", version))
        assert len(set(seen)) == len(seen), "no reader ever sees an utterance twice"
        assert set(jobs.ids(before)) <= set(seen), "or a changed one missing"
