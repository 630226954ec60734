"""A healthy encoder passes every check, and each kind of broken one is found by the row that is there for it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.encoder import checkpoints
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import load_encoder, resolve_checkpoint
from w2vb_ray.errors import ConfigError
from w2vb_ray.evaluate import report
from w2vb_ray.evaluate.reference import TransformersReference
from w2vb_ray.evaluate.selfcheck import Selfcheck
from w2vb_ray.evaluate.waveforms import synthetic_utterances

CHECKS = ["order", "neighbours", "frames", "repeat", "budget", "transformers"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny random checkpoint packed without padding, one that is padded, and one that takes no padding."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {variant: checkpoints.save(root / variant, variant) for variant in ("bert", "wav2vec2-layer", "conformer")}


class Sabotaged:
    """An encoder around another one, with one thing wrong.

    Args:
        encoder: what works.
        budget: its frame budget, None for the default.
    """

    def __init__(self, encoder, budget):
        self.encoder, self.budget, self.num_calls = encoder, budget, 0

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode(self, waveforms, *, keep_frames=False):
        self.num_calls += 1
        found = self.encoder.encode(waveforms, keep_frames=keep_frames)
        return [
            dataclasses.replace(
                one,
                pooled=[vector * self.factor(index, waveforms, keep_frames) for vector in one.pooled],
                frames=one.frames and [frames * self.frames_factor(waveforms) for frames in one.frames],
            )
            for index, one in enumerate(found)
        ]

    def factor(self, index, waveforms, keep_frames):
        return 1.0

    def frames_factor(self, waveforms):
        return 1.0


class LongestNeighbour(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3 * (max(map(len, waveforms)) - len(waveforms[index])) / len(waveforms[index])


class Position(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3 * index


class BigBatch(Sabotaged):
    """Wrong only for many at once, more than `neighbours` and `repeat` try."""

    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3 * (len(waveforms) > 11)


class FramesInCompany(Sabotaged):
    def frames_factor(self, waveforms):
        return 1 + 1e-3 * (len(waveforms) > 1)


class PooledWithFramesInCompany(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3 * (keep_frames and len(waveforms) > 1)


class Drift(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3 * self.num_calls


class SmallBudget(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3 * (self.budget == 1)


class Off(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return 1 + 1e-3


class OffFrames(Sabotaged):
    def frames_factor(self, waveforms):
        return 1 + 1e-3


class NotANumber(Sabotaged):
    def factor(self, index, waveforms, keep_frames):
        return np.nan if len(waveforms) > 1 else 1.0


def config_for(folder, num_trials=12, max_duration_s=2.5, **sections):
    defaults = {
        "encoder": {"checkpoint": str(folder), "device": "cpu"},
        "audio": {"max_window_s": 2.0, "window_context_s": 0.3},
        "selfcheck": {"num_trials": num_trials, "max_duration_s": max_duration_s},
    }
    return EvaluateConfig.model_validate(
        {name: {**defaults.get(name, {}), **sections.get(name, {})} for name in {**defaults, **sections}}
    )


def check(folder, sabotage=Sabotaged, **options):
    """Results by name."""
    config = config_for(folder, **options)

    def make_encoder(budget):
        batching = config.batching.model_copy(update={"max_frames": budget})
        return sabotage(load_encoder(config.encoder, config.pooling, batching, config.audio), budget)

    selfcheck = Selfcheck(
        config,
        make_encoder,
        lambda: TransformersReference(resolve_checkpoint(config.encoder)),
        synthetic_utterances(0, config.selfcheck.max_duration_s, config.audio.max_window_s),
    )
    return {result.name: result for result in selfcheck.run()}


def failed(results):
    return {name for name, result in results.items() if result.failed}


@pytest.mark.parametrize("variant", ["bert", "wav2vec2-layer", "conformer"])
def test_a_healthy_encoder_passes(variant, folders):
    results = check(folders[variant], encoder={"layers": [0, -1]})
    assert list(results) == CHECKS
    assert failed(results) == set(), results
    assert all(result.num_comparisons > 10 and result.skipped is None for result in results.values())


@pytest.mark.parametrize(
    ("encoder", "pooling", "num_vectors"),
    [
        ({"layers": [3, 0]}, {"method": ["mean_std", "max", "mean"], "normalise": True}, 2 * (3 + 1)),
        ({"layers": [1, 3], "layer_weights": [0.7, -0.2]}, {"method": ["mean", "max"]}, 2 + 1),
    ],
    ids=["methods", "mixture"],
)
def test_every_vector_is_compared_with_transformers(encoder, pooling, num_vectors, folders):
    results = check(folders["bert"], encoder=encoder, pooling=pooling, num_trials=1)
    assert failed(results) == set(), results
    assert results["frames"].num_comparisons == 12 * num_vectors
    assert results["transformers"].num_comparisons % num_vectors == 0


def test_half_precision_is_measured_by_cosines(folders):
    results = check(folders["bert"], encoder={"precision": "bf16"}, num_trials=2)
    assert failed(results) == set()
    assert {result.limit.measure for result in results.values()} == {"cosine"}
    assert (results["order"].limit.value, results["transformers"].limit.value) == (0.9999, 0.999)
    assert 0.999 < results["transformers"].worst < 1 - 1e-9


@pytest.mark.parametrize(
    ("sabotage", "rows"),
    [
        (LongestNeighbour, {"order", "neighbours", "frames", "budget"}),
        (Position, {"order", "neighbours", "frames", "budget"}),
        (BigBatch, {"order", "frames", "budget"}),
        (FramesInCompany, {"frames"}),
        (PooledWithFramesInCompany, {"frames"}),
        (Drift, set(CHECKS)),
        (SmallBudget, {"budget"}),
        (Off, {"transformers"}),
        (OffFrames, {"transformers"}),
        (NotANumber, {"order", "neighbours", "frames", "repeat", "budget"}),
    ],
)
def test_what_is_broken_is_found_by_its_row(sabotage, rows, folders):
    assert failed(check(folders["bert"], sabotage)) == rows


def test_the_row_names_the_vector(folders):
    result = check(folders["bert"], LongestNeighbour, num_trials=1)["order"]
    assert result.where == "0.025 s of noise, layer 3, mean"  # the shortest has the longest neighbour
    assert result.worst == pytest.approx(1e-3 * (2.2 - 0.025) / 0.025, rel=0.2)


def test_what_has_no_limit_is_skipped(folders):
    class Integers(Sabotaged):
        precision = "int4"

    result = check(folders["bert"], Integers, num_trials=1)["transformers"]
    assert (result.skipped, result.num_comparisons, result.failed) == ("no limit is known for int4", 0, False)


def test_one_model_at_a_time(folders):
    class Counted(Sabotaged):
        alive = most = made = 0

        def __init__(self, encoder, budget):
            super().__init__(encoder, budget)
            Counted.alive, Counted.made = Counted.alive + 1, Counted.made + 1
            Counted.most = max(Counted.most, Counted.alive)

        def __del__(self):
            Counted.alive -= 1

    check(folders["bert"], Counted, num_trials=1)
    assert (Counted.made, Counted.most, Counted.alive) == (4, 1, 0)


def test_the_report_of_a_healthy_checkpoint(folders, tmp_path):
    config = config_for(folders["bert"], 1, 1.0, evaluate={"report_uri": str(tmp_path / "new" / "report.json")})
    found = report.run_selfcheck(config)
    assert (found.failed, found.precision, found.device) == ([], "fp32", "cpu")
    assert report.closing_lines(found)[-1].startswith("all checks hold (")
    report.write_report(config, report.as_json(config, found))
    written = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert (written["holds"], written["precision"], written["trained"]) == (True, "fp32", True)
    assert [row["check"] for row in written["checks"]] == CHECKS


@pytest.mark.parametrize(
    ("sabotage", "precision", "said"),
    [
        (Off, "fp32", "failed: transformers: the vectors are not those of transformers; report it"),
        (FramesInCompany, "fp32", "failed: frames: an utterance's vector depends on its batch; report it"),
        (NotANumber, "bf16", "depends on its batch; set encoder.precision=fp32; if that fails too, report it"),
    ],
)
def test_the_report_of_a_broken_one_says_what_to_do(sabotage, precision, said, folders):
    checkpoint = resolve_checkpoint(EncoderSection(checkpoint=str(folders["bert"])))
    results = list(check(folders["bert"], sabotage, encoder={"precision": precision}, num_trials=1).values())
    found = report.Report(checkpoint, precision, "cpu", results, 1.0)
    assert said in report.closing_lines(found)[-1]
    rows = report.as_json(config_for(folders["bert"]), found)
    assert rows["holds"] is False
    assert {row["check"] for row in rows["checks"] if row["failed"]} == failed({r.name: r for r in results})
    json.dumps(rows, allow_nan=False)


def test_a_report_that_cannot_be_written_is_a_configuration_error(folders, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    config = config_for(folders["bert"], evaluate={"report_uri": str(tmp_path / "file" / "report.json")})
    with pytest.raises(ConfigError, match=r"evaluate\.report_uri must be a file that can be written"):
        report.write_report(config, {})
