"""Large multilingual speech corpora in, Wav2Vec2-BERT embeddings out, on Ray."""

__version__ = "0.1.0"
