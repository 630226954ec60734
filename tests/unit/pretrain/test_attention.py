"""Attention in blocks gives the values and the gradients of transformers'."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

from tests.unit.pretrain import small
from w2vb_ray.encoder import attention
from w2vb_ray.pretrain.attention import BlockedSelfAttention, block_attention


def an_encoder(**sizes):
    settings = {"num_hidden_layers": 2, "left_max_position_embeddings": 6, "right_max_position_embeddings": 2}
    config = AutoConfig.for_model(
        "wav2vec2-bert", hidden_size=16, num_attention_heads=2, intermediate_size=24, **{**settings, **sizes}
    )
    return AutoModel.from_config(config).eval()  # without dropout


@pytest.mark.parametrize("block", [256, 40, 5])
@pytest.mark.parametrize("lengths", [[1], [33, 33], [40, 17, 3]], ids=str)
def test_same_values_and_gradients(monkeypatch, block, lengths):
    """One block and many, narrower than the band and wider; padding behind and none."""
    monkeypatch.setattr(attention, "BLOCK", block)
    torch.manual_seed(3)
    model = an_encoder()
    theirs, ours = model.encoder.double(), block_attention(copy.deepcopy(model)).encoder.double()
    inputs = torch.randn(len(lengths), max(lengths), 16, dtype=torch.float64)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    weights = torch.randn_like(inputs) * real[..., None]
    found = []
    for encoder in (theirs, ours):
        rows = inputs.clone().requires_grad_()
        out = encoder(rows, attention_mask=real.long()).last_hidden_state
        (out * weights).sum().backward()
        gradients = {name: one.grad for name, one in encoder.named_parameters()}
        found.append((out[real], rows.grad, gradients))
    for one, other in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(one, other)
    assert found[0][2].keys() == found[1][2].keys()
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_it_is_what_training_uses():
    encoder = small.model(small.config()).encoder
    assert all(type(layer.self_attn) is BlockedSelfAttention for layer in encoder.encoder.layers)


def test_weights_stay_as_they_were():
    encoder = an_encoder()
    before = copy.deepcopy(encoder.state_dict())
    block_attention(encoder)
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_other_positions_stay_with_transformers():
    encoder = an_encoder(position_embeddings_type="rotary")
    block_attention(encoder)
    assert all(type(layer.self_attn) is Wav2Vec2BertSelfAttention for layer in encoder.encoder.layers)


def kept_bytes(encoder, length):
    """What waits for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor, tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(torch.randn(1, length, 16, requires_grad=True))
    return sum(count for _, count in kept.values())


def test_memory_is_linear_in_the_length():
    theirs = an_encoder(num_hidden_layers=1)
    ours = block_attention(copy.deepcopy(theirs))
    assert kept_bytes(theirs.encoder, 400) > 3 * kept_bytes(theirs.encoder, 200)
    assert kept_bytes(ours.encoder, 400) < 2.05 * kept_bytes(ours.encoder, 200)
