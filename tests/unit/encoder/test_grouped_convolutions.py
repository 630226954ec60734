"""Convolutions in groups are right in half precision, on whatever CPU this is."""

import pytest
import torch
from torch import nn

from w2vb_ray.encoder.grouped_convolutions import keep_groups_in_float32


def pair(dtype, channels, groups):
    """A convolution in a type and the same in float32, with the same weights."""
    torch.manual_seed(0)
    rounded = nn.Conv1d(channels, channels, 9, padding=4, groups=groups).to(dtype)
    exact = nn.Conv1d(channels, channels, 9, padding=4, groups=groups)
    exact.load_state_dict(rounded.state_dict())
    return nn.ModuleList([rounded]), exact


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("channels", "groups"), [(32, 16), (32, 4), (48, 48)])
def test_numbers_are_those_of_float32(dtype, channels, groups):
    model, exact = pair(dtype, channels, groups)
    keep_groups_in_float32(model)
    inputs = torch.randn(2, channels, 50).to(dtype)
    with torch.inference_mode():
        found, expected = model[0](inputs), exact(inputs.float()).to(dtype)
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert torch.equal(found, expected)


def test_autocast_does_not_reach_them():
    model, exact = pair(torch.float32, 32, 16)
    keep_groups_in_float32(model)
    inputs = torch.randn(2, 32, 50)
    with torch.autocast("cpu", torch.bfloat16):
        found = model[0](inputs)
    assert torch.equal(found, exact(inputs))


def test_others_keep_their_type():
    model, _ = pair(torch.bfloat16, 32, 1)
    keep_groups_in_float32(model)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
