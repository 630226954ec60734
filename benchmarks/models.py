"""Checkpoints with random weights for benchmarks: speed does not depend on what a model has learnt."""

from pathlib import Path

SEED = 0


def base_checkpoint(folder: Path, num_layers: int = 12) -> Path:
    """Write a `wav2vec2-bert` of the base size as a transformers checkpoint with seeded random weights.

    768 dimensions, 12 heads, intermediate 3072, relative-key attention 64 left and 8 right: 163 M parameters.

    Args:
        folder: where to write it; made when missing, left alone when it already holds a checkpoint.
        num_layers: 12 is the base size; fewer only to try a benchmark out.
    """
    return _checkpoint(folder, hidden_size=768, num_hidden_layers=num_layers, num_heads=12, intermediate_size=3072)


def tiny_checkpoint(folder: Path) -> Path:
    """The same with one layer of 32 dimensions: what is left of a run's time when the model takes none.

    Args:
        folder: where to write it; made when missing, left alone when it already holds a checkpoint.
    """
    return _checkpoint(folder, hidden_size=32, num_hidden_layers=1, num_heads=2, intermediate_size=48)


def _checkpoint(
    folder: Path, *, hidden_size: int, num_hidden_layers: int, num_heads: int, intermediate_size: int
) -> Path:
    if (folder / "preprocessor_config.json").is_file():  # written last
        return folder
    import torch
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel
    from transformers.utils import logging

    config = Wav2Vec2BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_heads,
        intermediate_size=intermediate_size,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=64,
        right_max_position_embeddings=8,
    )
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Wav2Vec2BertModel(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    SeamlessM4TFeatureExtractor(
        feature_size=80, num_mel_bins=80, sampling_rate=16_000, stride=2, padding_value=0.0
    ).save_pretrained(folder)
    return folder
