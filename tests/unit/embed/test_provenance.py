from pathlib import Path

import pytest

from tests.unit.encoder import heads
from w2vb_ray.config import EmbedConfig
from w2vb_ray.embed.provenance import FINGERPRINT, Provenance, resolve_layers
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.errors import CheckpointError, SinkError
from w2vb_ray.schema import Vectors

WEIGHTS = "0123456789ab" + "c" * 52


def checkpoint(**changes):
    facts = {
        "path": Path("x"),
        "weights_sha256": WEIGHTS,
        "config": {},
        "num_layers": 24,
        "dimension": 1024,
        "model_type": "wav2vec2-bert",
    }
    return Checkpoint(name="facebook/w2v-bert-2.0", **{**facts, **changes})


def provenance(precision="fp32", model=None, **sections):
    config = EmbedConfig.model_validate({"source": {"uri": "a"}, "sink": {"uri": "b"}, **sections})
    return Provenance.of(config, model or checkpoint(), precision)


def test_everything_that_made_the_vectors_is_written_down():
    made = provenance(encoder={"layers": [8, -1], "revision": "main"}, pooling={"method": "max"})
    assert made.vectors == Vectors([8, 24], ["max"])
    fingerprint = made.properties[FINGERPRINT]
    assert len(fingerprint) == 64
    assert dict(made.properties) == {
        "w2vb.checkpoint": "facebook/w2v-bert-2.0",
        "w2vb.revision": "main",
        "w2vb.trained": "true",
        "w2vb.model_type": "wav2vec2-bert",
        "w2vb.dimension": "1024",
        "w2vb.weights_sha256": WEIGHTS,
        "w2vb.layers": "[8, 24]",
        "w2vb.pooling": "max",
        "w2vb.window": '{"max_window_s": 30.0, "window_context_s": 2.0}',
        "w2vb.features": "fbank80x2-1",
        "w2vb.resampler": "soxr-hq-1",
        "w2vb.precision": "fp32",
        FINGERPRINT: fingerprint,
    }


MIXED = {"encoder": {"layers": [8, -1], "layer_weights": [0.5, 2]}}


def test_settings_younger_than_tables_are_written_only_where_they_differ():
    assert provenance().properties[FINGERPRINT] == "efd0d9e7acdb3e34c2783a316fdd091ce2ddd7338380004c5ee7cc2c0ff7797e"
    made = provenance(**MIXED, pooling={"method": ["mean", "max"], "normalise": True})
    assert made.vectors == Vectors([8, 24], ["mean", "max"], mixed=True)
    assert made.properties["w2vb.layer_weights"] == "[0.5, 2.0]"
    assert made.properties["w2vb.pooling"] == '["mean", "max"]'
    assert made.properties["w2vb.normalise"] == "true"
    assert provenance(pooling={"method": ["mean"]}).properties == provenance().properties


def test_another_attention_head_may_not_append(tmp_path):
    model = checkpoint(path=tmp_path, num_layers=3, dimension=32)
    heads.save(tmp_path)
    first = provenance(model=model, pooling={"method": "attention"})
    assert len(first.properties["w2vb.attention_sha256"]) == 64
    first.check(first.properties, "sink")
    assert "w2vb.attention_sha256" not in provenance(model=model).properties
    heads.save(tmp_path, num_heads=3)
    second = provenance(model=model, pooling={"method": "attention"})
    assert second.properties[FINGERPRINT] != first.properties[FINGERPRINT]
    with pytest.raises(SinkError, match=r"the attention head of encoder\.checkpoint \(table: [0-9a-f]{12}…, this run:"):
        second.check(first.properties, "sink")


def test_a_table_refuses_a_run_that_lacks_what_made_it():
    stored = provenance(**MIXED, pooling={"normalise": True}).properties
    with pytest.raises(SinkError) as caught:
        provenance(encoder={"layers": [8, -1]}).check(stored, "sink")
    assert (
        "settings: encoder.layer_weights (table: [0.5, 2.0], this run: null); "
        "pooling.normalise (table: true, this run: false). Vectors"
    ) in str(caught.value)


def test_an_untrained_model_says_so():
    assert provenance(model=checkpoint(config={"w2vb_ray": {"trained": False}})).properties["w2vb.trained"] == "false"


def test_the_same_settings_may_append():
    stored = provenance().properties
    provenance().check(stored, "sink")
    provenance(encoder={"layers": [24], "checkpoint": "/elsewhere"}).check(stored, "sink")
    provenance(batching={"max_frames": 5000}, cluster={"num_encoders": 2}).check(stored, "sink")
    provenance(precision=None).check(stored, "sink")  # not known yet
    assert provenance(encoder={"layers": [24]}).properties[FINGERPRINT] == stored[FINGERPRINT]


@pytest.mark.parametrize(
    ("other", "setting", "table_has", "run_has"),
    [
        ({"model": checkpoint(weights_sha256="f" * 64)}, "encoder.checkpoint", "0123456789ab…", "ffffffffffff…"),
        ({"encoder": {"layers": [8]}}, "encoder.layers", "[24]", "[8]"),
        ({"encoder": {"layers": [8, -1]}}, "encoder.layers", "[24]", "[8, 24]"),
        ({"precision": "bf16"}, "encoder.precision", "fp32", "bf16"),
        ({"pooling": {"method": "max"}}, "pooling.method", "mean", "max"),
        ({"pooling": {"method": ["mean", "max"]}}, "pooling.method", "mean", '["mean", "max"]'),
        ({"pooling": {"normalise": True}}, "pooling.normalise", "false", "true"),
        ({"encoder": {"layer_weights": [0.5]}}, "encoder.layer_weights", "null", "[0.5]"),
        (
            {"audio": {"max_window_s": None}},
            "audio.max_window_s and audio.window_context_s",
            '{"max_window_s": 30.0, "window_context_s": 2.0}',
            '{"max_window_s": null, "window_context_s": 2.0}',
        ),
    ],
)
def test_another_setting_may_not_and_both_values_are_named(other, setting, table_has, run_has):
    stored = provenance().properties
    assert provenance(**other).properties[FINGERPRINT] != stored[FINGERPRINT]
    with pytest.raises(SinkError) as caught:
        provenance(**other).check(stored, "s3://b/t")
    assert f"settings: {setting} (table: {table_has}, this run: {run_has}). Vectors" in str(caught.value)
    assert "s3://b/t" in str(caught.value)
    assert "another sink.uri" in str(caught.value)


def test_all_that_differs_is_in_one_message():
    with pytest.raises(SinkError) as caught:
        provenance("bf16", pooling={"method": "max"}).check(provenance().properties, "sink")
    assert "encoder.precision (table: fp32, this run: bf16); pooling.method (table: mean, this run: max)" in str(
        caught.value
    )


@pytest.mark.parametrize("key", ["w2vb.features", "w2vb.resampler"])
def test_another_version_of_ours_may_not_append(key):
    with pytest.raises(SinkError, match="of this version of w2vb_ray \\(table: old-0, this run: "):
        provenance().check({**provenance().properties, key: "old-0"}, "sink")


def test_a_new_table_takes_anything():
    provenance().check({}, "sink")


@pytest.mark.parametrize(
    ("layers", "resolved"), [([-1], [24]), ([0], [0]), ([24], [24]), ([-25], [0]), ([16, 8, -1], [16, 8, 24])]
)
def test_layers_count_from_both_ends(layers, resolved):
    assert resolve_layers(layers, 24) == resolved


@pytest.mark.parametrize("layers", [[], [25], [-26], [24, -1], [3, 3]])
def test_layers_that_are_not_there(layers):
    with pytest.raises(CheckpointError, match=r"encoder\.layers must name .*24.* is \["):
        resolve_layers(layers, 24)
