"""What happens when the model runs out of memory, with a forward that fails above a known size."""

import numpy as np
import pytest
import torch

from tests.unit.encoder.checkpoints import load, relative_error, waveforms
from w2vb_ray.encoder.torch_backend import is_out_of_memory
from w2vb_ray.errors import ConfigError

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


class Small:
    """A forward that holds at most `frames` frames."""

    def __init__(self, forward, frames, error):
        self.forward, self.frames, self.error, self.sizes, self.pads = forward, frames, error, [], forward.pads

    def __call__(self, inputs, lengths):
        size = len(inputs) * max(lengths) if self.pads else sum(lengths)
        if size > self.frames:
            raise self.error
        self.sizes.append(size)
        yield from self.forward(inputs, lengths)


@pytest.fixture(params=["bert", "bert-rotary"])
def encoder(checkpoint, request):
    """Packed and padded."""
    return load(checkpoint(request.param), max_frames=1_500)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_MESSAGE)])
def test_smaller_micro_batches_until_they_fit(encoder, error):
    batch = waveforms(16_000, 20_000, 7_000, 32_000, 9_000, 16_000, 31_000)
    expected = encoder.encode(batch)
    encoder._forward = small = Small(encoder._forward, 120, error)
    for first, second in zip(expected, encoder.encode(batch), strict=True):
        assert relative_error(second.pooled[0], first.pooled[0]) < 1e-5
    assert max(small.sizes) <= 120
    assert encoder.stats.num_frames == 2 * sum(embeddings.num_frames for embeddings in expected)  # failures not counted


def test_budget_stays_halved(encoder):
    batch = waveforms(*[16_000] * 16)
    inner = encoder._forward

    class Forward:
        calls, pads = [], inner.pads

        def __call__(self, inputs, lengths):
            self.calls.append(len(inputs))
            if len(inputs) > 8:
                raise torch.OutOfMemoryError
            return inner(inputs, lengths)

    encoder._forward = forward = Forward()
    encoder.encode(batch)
    assert forward.calls == [16, 8, 8]
    encoder.encode(batch)
    assert max(forward.calls[3:]) <= 15


def test_a_window_that_does_not_fit_alone_is_a_clear_error(encoder):
    encoder._forward = Small(encoder._forward, 40, RuntimeError(CPU_MESSAGE))
    with pytest.raises(ConfigError, match=r"audio\.max_window_s must .* 0\.98 s did not; lower audio\.max_window_s"):
        encoder.encode(waveforms(16_000, 8_000))


def test_other_errors_are_not_memory(encoder):
    encoder._forward = Small(encoder._forward, 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        encoder.encode(waveforms(16_000))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_overflow_shows_in_the_vector_and_only_there(encoder):
    """The caller rejects that utterance; its neighbours are unhurt."""
    inner = encoder._forward

    class Overflowing:
        pads = inner.pads

        def __call__(self, inputs, lengths):
            longest = lengths.index(max(lengths))
            first = sum(lengths[:longest])
            for layer, hidden in inner(inputs, lengths):
                hidden[first : first + lengths[longest]] = torch.inf
                yield layer, hidden

    alone = encoder.encode(waveforms(16_000))[0].pooled[0]
    encoder._forward = Overflowing()
    fine, broken = encoder.encode(waveforms(16_000, 24_000))
    assert not np.isfinite(broken.pooled[0]).any()
    assert np.linalg.norm(fine.pooled[0] - alone) < 1e-4 * np.linalg.norm(alone)
