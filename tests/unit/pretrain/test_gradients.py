"""Gradients of several workers, added up in few messages."""

import pytest
import torch
from torch import nn

from w2vb_ray.pretrain import gradients
from w2vb_ray.pretrain.gradients import exchange_gradients

SHAPES = [(3, 4), (5,), (2, 2, 2), (), (7, 9)]


def parameters():
    generator = torch.Generator().manual_seed(0)
    found = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    for one in found:
        one.grad = torch.randn(one.shape, generator=generator)
    return found


@pytest.mark.parametrize(("bucket_bytes", "messages"), [(10**6, 1), (100, 3), (1, 5)])
def test_sums_have_the_place_and_the_bits_of_their_gradients(monkeypatch, bucket_bytes, messages):
    """However many of them go in one message; one larger than that goes alone."""
    monkeypatch.setattr(gradients, "BUCKET_BYTES", bucket_bytes)
    found, sent = parameters(), []
    expected = [2 * one.grad for one in found]

    def exchange(tensor):
        sent.append(tensor.numel())
        return 2 * tensor

    exchange_gradients(found, exchange)
    assert len(sent) == messages
    assert sum(sent) == sum(one.numel() for one in found)
    for one, wanted in zip(found, expected, strict=True):
        assert one.grad.shape == one.shape
        assert torch.equal(one.grad, wanted)


def test_a_gradient_that_is_not_there_counts_as_zeros():
    found = parameters()
    found[1].grad = None
    exchange_gradients(found, lambda tensor: tensor + 1)
    assert torch.equal(found[1].grad, torch.ones(5))


def test_what_is_not_trained_is_left_alone():
    found = parameters()
    found[2].requires_grad_(False)
    found[2].grad = None
    exchange_gradients(found, lambda tensor: tensor)
    assert found[2].grad is None
