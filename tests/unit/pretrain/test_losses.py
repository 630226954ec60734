"""Against the formulas, one frame and one distractor at a time."""

import math

import pytest
import torch

from w2vb_ray.pretrain.losses import (
    code_loss,
    contrastive_loss,
    diversity_gradient,
    diversity_loss,
    draw_negatives,
)

COUNTS = [2, 7, 4]
GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def brute_force(predictions, targets, codes, negatives, temperature):
    loss, correct, same, start = 0.0, 0, 0, 0
    for count in COUNTS:
        for frame in range(start, start + count):

            def similarity(other, frame=frame):
                one, two = predictions[frame], targets[other]
                return float(one @ two / one.norm() / two.norm()) / temperature

            logits = []
            for place in negatives[frame].tolist():
                if torch.equal(codes[start + place], codes[frame]):
                    same += 1
                else:
                    logits.append(similarity(start + place))
            positive = similarity(frame)
            correct += all(logit < positive for logit in logits)
            loss -= math.log(math.exp(positive) / sum(math.exp(logit) for logit in [positive, *logits]))
        start += count
    return loss, correct, same


@pytest.mark.parametrize("num_codes", [1, 2, 50])
def test_contrastive(num_codes):
    predictions, targets = randn(13, 6), randn(13, 6)
    codes = torch.randint(num_codes, (13, 2), generator=GENERATOR)
    negatives = torch.cat([draw_negatives(count, 9, GENERATOR) for count in COUNTS])
    found = contrastive_loss(predictions, targets, codes, negatives, COUNTS, 0.1)
    loss, correct, same = brute_force(predictions, targets, codes, negatives, 0.1)
    assert float(found.loss) == pytest.approx(loss, rel=1e-5, abs=1e-6)
    assert (int(found.num_correct), int(found.num_same)) == (correct, same)
    assert (same == 13 * 9) == (num_codes == 1)


def test_distractors_are_the_others_of_the_utterance():
    for count in COUNTS:
        for frame, places in enumerate(draw_negatives(count, 500, GENERATOR)):
            assert set(places.tolist()) == set(range(count)) - {frame}
    with pytest.raises(ValueError, match="at least 2 hidden frames, but has 1"):
        draw_negatives(1, 5, GENERATOR)


@pytest.mark.parametrize(("groups", "codes"), [(1, 16), (2, 320)])
def test_diversity_from_none_to_all(groups, codes):
    even, one = torch.full((groups, codes), 1 / codes), torch.zeros(groups, codes)
    one[:, 3] = 1
    assert float(diversity_loss(even)) == pytest.approx(0, abs=1e-3)
    assert float(diversity_loss(one)) == pytest.approx((groups * codes - groups) / (groups * codes), abs=1e-3)


def test_the_gradient_of_diversity_is_a_sum_over_frames():
    logits = randn(30, 2, 5).requires_grad_()
    diversity_loss(torch.softmax(logits, -1).mean(0)).backward()
    expected, logits.grad = logits.grad, None
    slope = diversity_gradient(torch.softmax(logits, -1).mean(0))
    for part in torch.softmax(logits, -1).split([11, 1, 18]):
        ((slope * part.sum(0)).sum() / 30).backward(retain_graph=True)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-8)


def test_codes_are_a_mean_over_codebooks_and_a_sum_over_frames():
    logits, ids = randn(4, 2, 5), torch.tensor([[0, 1], [2, 3], [4, 0], [1, 1]])
    expected = -sum(torch.log_softmax(logits[m, g], 0)[ids[m, g]] for m in range(4) for g in range(2)) / 2
    torch.testing.assert_close(code_loss(logits, ids), expected)
