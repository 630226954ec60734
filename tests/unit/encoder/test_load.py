import pytest
import torch

from tests.unit.encoder.checkpoints import load
from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingSection
from w2vb_ray.encoder import load_encoder
from w2vb_ray.errors import ConfigError


def test_what_the_configuration_says(checkpoint):
    section = EncoderSection(checkpoint=str(checkpoint("bert")), device="cpu", layers=[-1, 1])
    encoder = load_encoder(section, PoolingSection(), BatchingSection(), AudioSection())
    assert (encoder.num_layers, encoder.dimension, encoder.layers) == (3, 32, [3, 1])
    assert (encoder.precision, encoder.device) == ("fp32", "cpu")
    assert encoder.stats.waste == 0.0


def test_int8_needs_an_artifact(checkpoint):
    with pytest.raises(ConfigError, match=r"encoder\.precision int8 needs an artifact"):
        load(checkpoint("bert"), precision="int8")


def test_a_device_that_is_not_there(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"encoder\.device must .* is cuda"):
        load(checkpoint("bert"), device="cuda")
    assert load(checkpoint("bert"), device="auto").device == "cpu"


def test_threads(checkpoint):
    before = torch.get_num_threads()
    section = EncoderSection(checkpoint=str(checkpoint("bert")), device="cpu")
    try:
        load_encoder(section, PoolingSection(), BatchingSection(), AudioSection(), num_threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("variant", "options", "expected"),
    [("bert", {}, 2_048), ("bert", {"max_frames": 900}, 900), ("wav2vec2-layer", {"max_window_s": 60.0}, 800)],
)
def test_budget_is_the_one_of_the_device_and_the_forward_unless_given(variant, options, expected, checkpoint):
    assert load(checkpoint(variant), **options)._max_frames == expected


@pytest.mark.parametrize("variant", ["bert", "bert-rotary", "bert-relative"])
def test_positions_the_packed_forward_does_not_know_fall_back_and_say_so(variant, checkpoint, caplog):
    assert load(checkpoint(variant))._forward.pads == (variant != "bert")
    assert ("the slower forward of transformers is used" in caplog.text) == (variant != "bert")


def test_transformers_logging_is_left_as_it_was(checkpoint):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(checkpoint("bert"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
