"""Configs, checkpoints to start from, the alarm, learning rates, half precision."""

import contextlib
import json

import pytest
import torch
from pydantic import ValidationError

from tests.unit.encoder.checkpoints import save
from tests.unit.pretrain.small import SIZES, config, micro_batch, model
from w2vb_ray.config.pretrain import AlarmSection, ModelSection, OptimiserSection, QuantizerSection
from w2vb_ray.errors import ConfigError
from w2vb_ray.pretrain.alarm import CollapseAlarm
from w2vb_ray.pretrain.model import PretrainingModel, checkpoint_folder, make_encoder
from w2vb_ray.pretrain.optimiser import learning_rate, make_optimiser
from w2vb_ray.pretrain.update import Objective


def test_an_encoder_of_a_checkpoint_has_its_weights_and_no_dropout(tmp_path):
    section = ModelSection(checkpoint=str(save(tmp_path, "bert")), contrastive_layers=2)
    encoder = make_encoder(section, checkpoint_folder(section), 10)
    from transformers import AutoModel

    expected = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(one, expected[key]) for key, one in encoder.state_dict().items())
    assert encoder.training
    assert {one.p for one in encoder.modules() if isinstance(one, torch.nn.Dropout)} == {0.0}
    assert encoder.config.layerdrop == 0.0


def test_what_starts_from_an_untrained_model_is_untrained_no_more(tmp_path):
    folder = save(tmp_path, "bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "w2vb_ray": {"trained": False}}), encoding="utf-8")
    section = ModelSection(checkpoint=str(folder), contrastive_layers=2)
    assert "w2vb_ray" not in make_encoder(section, checkpoint_folder(section), 10).config.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "wav2vec2"}, r"model\.checkpoint must be of model\.type wav2vec2"),
        ({"contrastive_layers": 4}, "at most"),
    ],
)
def test_a_checkpoint_that_does_not_fit(changes, message, tmp_path):
    section = ModelSection(checkpoint=str(save(tmp_path, "bert")), **{"contrastive_layers": 2, **changes})
    with pytest.raises(ConfigError, match=message):
        checkpoint_folder(section)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": {"contrastive_layers": 3}},
        {"model": {"hidden_size": 33}},
        {"batches": {"max_crop_s": 1.0}},
        {"batches": {"max_frames": 500}},
    ],
)
def test_sections_that_contradict_themselves(wrong):
    with pytest.raises(ValidationError):
        config(**wrong)


def test_the_layer_of_the_contrastive_loss():
    """Layers behind it learn nothing from it."""
    found = config(model={**SIZES, "num_layers": 3, "contrastive_layers": 2}, loss={"masked_prediction": 0.0})
    trained = model(found)
    Objective(trained, found, contextlib.nullcontext).accumulate([micro_batch(found, [0, 1])], 0, lambda one: one)
    layers = [
        sum(float(one.grad.abs().sum()) for one in layer.parameters()) for layer in trained.encoder.encoder.layers
    ]
    assert layers[0] > 0
    assert layers[1] > 0
    assert layers[2] == 0


@pytest.mark.parametrize("kind", ["wav2vec2-bert", "wav2vec2", "wav2vec2-conformer"])
def test_bf16_is_near_fp32(kind):
    found = config(model={"type": kind})
    micro = [micro_batch(found, range(4))]
    plain, trained = model(found), model(found)
    full = Objective(plain, found, contextlib.nullcontext).accumulate(micro, 0, lambda one: one)
    half = Objective(trained, found, lambda: torch.autocast("cpu", torch.bfloat16)).accumulate(
        micro, 0, lambda one: one
    )
    assert half["contrastive_loss"] == pytest.approx(full["contrastive_loss"], rel=0.02)
    assert half["masked_prediction_loss"] == pytest.approx(full["masked_prediction_loss"], rel=0.02)
    assert {one.grad.dtype for one in trained.parameters()} == {torch.float32}
    exact, rounded = (torch.cat([one.grad.flatten() for one in some.parameters()]) for some in (plain, trained))
    assert float(torch.cosine_similarity(exact, rounded, dim=0)) > 0.99


def trained_and_watched(found, num_updates):
    """What the alarm said in so many updates on noise, and the figures of the last."""
    trained = model(found)
    optimiser, objective = make_optimiser(trained, found), Objective(trained, found, contextlib.nullcontext)
    alarm, told, figures = CollapseAlarm(found.alarm, found.quantizer), [], {}
    for update in range(num_updates):
        optimiser.zero_grad()
        figures = objective.accumulate([micro_batch(found, [3 * update, 3 * update + 1])], update, lambda one: one)
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 5.0)
        optimiser.step()
        told += [problem] if (problem := alarm.look(figures)) else []
    return told, figures


def test_a_run_without_diversity_collapses_and_is_told_so():
    """All frames get one code, and every loss is better than ever."""
    found = config(
        loss={"diversity": 0.0},
        optimiser={"learning_rate": 0.1, "weight_decay": 0.0},
        alarm={"patience_updates": 20, "min_perplexity": 0.1},
    )
    told, figures = trained_and_watched(found, 250)
    assert figures["contrastive_loss"] + figures["masked_prediction_loss"] < 0.5
    assert figures["masked_prediction_gain"] < 0.1  # the figure that collapse cannot make better
    assert told[0].startswith("the codes have collapsed")


@pytest.mark.parametrize("alone", [True, False], ids=["masked prediction alone", "both losses"])
def test_masked_prediction_alone_collapses_and_is_told_so(alone):
    """As in w2v-BERT's ablation (Chung et al. 2021); what learns here are the convolutions."""
    found = config(
        model={"type": "wav2vec2"},
        loss={"contrastive": 0.0} if alone else {},
        quantizer={"num_codes": 32},
        optimiser={"learning_rate": 0.003, "weight_decay": 0.0},
        alarm={"patience_updates": 100},
    )
    told, figures = trained_and_watched(found, 150)
    assert bool(told) == alone
    assert (figures["code_perplexity"] < 1.5) == alone
    assert (figures["masked_prediction_accuracy"] > 0.95) == alone
    assert figures["masked_prediction_gain"] < 0.1


def test_masked_prediction_alone_moves_no_code():
    """Its targets have no gradient, so that it cannot make them easy."""
    found = config(loss={"contrastive": 0.0})
    trained = model(found)
    Objective(trained, found, contextlib.nullcontext).accumulate([micro_batch(found, [0, 1])], 0, lambda one: one)
    assert sum(float(one.grad.abs().sum()) for one in trained.quantizer.parameters()) == 0
    assert float(trained.code_head.weight.grad.abs().sum()) > 0


FINE = {"probability_perplexity": 200.0, "code_perplexity": 180.0, "same_negatives": 0.01, "hidden_frames": 5000.0}


def test_the_alarm_waits_and_begins_again():
    alarm = CollapseAlarm(AlarmSection(patience_updates=3), QuantizerSection())
    few, one, same = ({"probability_perplexity": 31.0}, {"code_perplexity": 1.0}, {"same_negatives": 0.3})
    found = [alarm.look({**FINE, **change}) for change in (few, same, {}, few, one, same, few, few)]
    assert [bool(told) for told in found] == [False, False, False, False, False, True, False, False]


@pytest.mark.parametrize(("perplexity", "wrong"), [(19.0, True), (21.0, False)])
def test_an_update_of_few_frames_cannot_have_many_codes(perplexity, wrong):
    alarm = CollapseAlarm(AlarmSection(patience_updates=1), QuantizerSection())
    assert bool(alarm.look({**FINE, "code_perplexity": perplexity, "hidden_frames": 200.0})) == wrong


def test_learning_rates():
    section = OptimiserSection(learning_rate=1.0, warmup_updates=10)
    rates = [learning_rate(update, 110, section) for update in range(110)]
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.01)


def test_stable_layer_norm_has_its_own_norm_before_the_head():
    assert isinstance(model(config(model={"type": "wav2vec2"})).middle_norm, torch.nn.LayerNorm)
    assert isinstance(model(config()), PretrainingModel)
