"""The gradient of an update does not depend on how its utterances are cut into micro-batches and padded."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.pretrain.small import config, micro_batch, model
from w2vb_ray.pretrain.optimiser import make_optimiser
from w2vb_ray.pretrain.update import Objective

SECTIONS = [{"type": "wav2vec2-bert"}, {"type": "wav2vec2"}]
FAMILIES = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["type"])


def alone(tensor):
    """One worker."""
    return tensor


def gradients(found, micro_batches, exchange=alone, trained=None):
    trained = trained or model(found)
    figures = Objective(trained, found, contextlib.nullcontext).accumulate(micro_batches, 3, exchange)
    return figures, {name: one.grad.clone() for name, one in trained.named_parameters()}


def assert_same(found, expected):
    (figures, grads), (wanted, known) = found, expected
    for name in wanted.keys() - {"padding"}:
        assert figures[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-6), name
    scale = max(float(one.abs().max()) for one in known.values())
    for name, one in known.items():
        assert float((grads[name] - one).abs().max()) <= 1e-5 * scale, name


@FAMILIES
def test_padding_changes_nothing(section):
    found = config(model=section, loss={"random_projection": 0.5})
    assert_same(
        gradients(found, [micro_batch(found, [7, 8, 9], extra=20)]), gradients(found, [micro_batch(found, [7, 8, 9])])
    )


@FAMILIES
def test_one_batch_of_eight_is_eight_of_one(section):
    found = config(model=section, loss={"random_projection": 0.5})
    whole = gradients(found, [micro_batch(found, range(8))])
    assert_same(gradients(found, [micro_batch(found, [number]) for number in range(8)]), whole)
    assert_same(gradients(found, [micro_batch(found, [5, 1, 7, 2]), micro_batch(found, [0, 6, 4, 3])]), whole)


def test_two_workers_are_one():
    found = config()
    with ThreadPoolExecutor(2) as threads:
        both = Exchange()
        parts = [[micro_batch(found, [0, 1]), micro_batch(found, [2])], [micro_batch(found, [3, 4, 5])]]
        models = [model(found), model(found)]
        results = list(threads.map(lambda part, one: gradients(found, part, both, one), parts, models))
    whole = gradients(found, [micro_batch(found, range(6))])
    for result in results:
        assert_same(result, whole)


class Exchange:
    """Sums over two threads."""

    def __init__(self):
        self.barrier, self.given = threading.Barrier(2, timeout=60), [None, None]

    def __call__(self, tensor):
        place = self.barrier.wait()
        self.given[place] = tensor
        self.barrier.wait()
        total = self.given[0] + self.given[1]
        self.barrier.wait()
        return total


@pytest.mark.parametrize("section", [*SECTIONS, {"type": "wav2vec2-conformer"}], ids=lambda section: section["type"])
def test_every_parameter_learns(section):
    found = config(model=section, loss={"random_projection": 0.5})
    _, grads = gradients(found, [micro_batch(found, [1, 2])])
    still = {name for name, one in grads.items() if not one.abs().sum()}
    assert {name for name in still if "pos_conv_embed" not in name} == set()  # transformers' conformer has one, unused


def test_losses_fall_on_one_batch():
    found = config(optimiser={"learning_rate": 3e-3})
    trained, micro = model(found), micro_batch(found, [0, 2, 3])
    optimiser, objective = make_optimiser(trained, found), Objective(trained, found, contextlib.nullcontext)
    seen = []
    for update in range(60):
        optimiser.zero_grad()
        seen.append(objective.accumulate([micro], update, alone))
        optimiser.step()
    assert seen[-1]["contrastive_loss"] < 0.6 * seen[0]["contrastive_loss"]
    assert seen[-1]["contrastive_accuracy"] > 0.5 > seen[0]["contrastive_accuracy"]
    assert seen[-1]["masked_prediction_gain"] > 0.3 > seen[0]["masked_prediction_gain"]


def test_groups_of_the_optimiser():
    found = config(quantizer={"learning_rate_factor": 0.1})
    trained = model(found)
    groups = make_optimiser(trained, found).param_groups
    of = {id(one): (group["weight_decay"], group["factor"]) for group in groups for one in group["params"]}
    assert len(of) == len(list(trained.parameters()))
    named = dict(trained.named_parameters())
    assert of[id(named["quantizer.codevectors"])] == (0.0, 0.1)
    assert of[id(named["quantizer.weight_proj.weight"])] == (0.01, 0.1)
    assert of[id(named["encoder.masked_spec_embed"])] == (0.0, 1.0)
    assert of[id(named["code_head.weight"])] == (0.01, 1.0)
