import torch
from hypothesis import given
from hypothesis import strategies as st

from w2vb_ray.encoder.packing import MULTIPLE, Packing

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def inputs_of(lengths, width=3):
    return list(torch.arange(1.0, 1 + sum(lengths) * width).view(-1, width).split(lengths))


@given(LENGTHS, st.sampled_from([1, 7, MULTIPLE, 128]))
def test_each_input_is_where_its_span_says_and_zeros_are_behind(lengths, multiple):
    packing, inputs = Packing(lengths, CPU, multiple), inputs_of(lengths)
    packed = packing.pack(inputs)
    assert packed.shape == (packing.num_rows, 3)
    assert packing.num_rows == -(-sum(lengths) // multiple) * multiple
    for one, span in zip(inputs, packing.spans, strict=True):
        torch.testing.assert_close(packed[span], one, rtol=0, atol=0)
    assert not packed[sum(lengths) :].any()


@given(LENGTHS)
def test_rows_know_their_input_and_their_place_in_it(lengths):
    packing = Packing(lengths, CPU)
    assert packing.num_rows % MULTIPLE == 0
    rest = packing.num_rows - sum(lengths)
    expected = [(i, j) for i, n in enumerate([*lengths, rest]) for j in range(n)]
    assert list(zip(packing.inputs.tolist(), packing.positions.tolist(), strict=True)) == expected


@given(LENGTHS, st.integers(1, 4))
def test_a_convolution_of_spread_rows_sees_only_its_own_input(lengths, gap):
    packing, inputs = Packing(lengths, CPU), inputs_of(lengths)
    spread = packing.spread(packing.pack(inputs), gap)
    sums = packing.gather(spread.unfold(0, gap + 1, 1).sum(-1), gap)
    for one, span in zip(inputs, packing.spans, strict=True):
        padded = torch.cat([torch.zeros(gap, 3), one])
        torch.testing.assert_close(sums[span], padded.unfold(0, gap + 1, 1).sum(-1))
