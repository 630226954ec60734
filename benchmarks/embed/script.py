"""Row `script`: what the documentation of transformers and datasets leads to, nothing tuned, nothing crippled.

`python -m benchmarks.embed.script MANIFEST CHECKPOINT OUT.parquet --threads N --facts FILE`

Batches of 8 in the order of the manifest, padded, with the attention mask; attention as `AutoModel` loads it; mean over
the real frames. `datasets` decodes with torchcodec, whose wheels want CUDA libraries that a CPU torch does not bring,
so the bytes are decoded with soundfile and soxr here (which is also what librosa would call).
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Audio, Dataset
from transformers import AutoFeatureExtractor, AutoModel

from benchmarks.audio import RATE_HZ, load_audio

BATCH_SIZE = 8


def main() -> None:
    """Embed a manifest; leave times and counts in `--facts`."""
    options = _parse()
    torch.set_num_threads(options.threads)
    with options.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    columns = {"audio": [row["path"] for row in rows], "language": [row["language"] for row in rows]}
    dataset: Any = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
    extractor = AutoFeatureExtractor.from_pretrained(options.checkpoint)
    model = AutoModel.from_pretrained(options.checkpoint).eval()
    facts = {"attention": model.config._attn_implementation, "num_frames": 0, "num_padding_frames": 0}
    facts |= {"audio_s": 0.0, "encoder_s": 0.0, "ready": time.time()}

    def embed(batch: dict[str, list[Any]]) -> dict[str, Any]:
        waveforms = [load_audio(audio["bytes"] or audio["path"]) for audio in batch["audio"]]
        started = time.perf_counter()
        inputs = extractor(waveforms, sampling_rate=RATE_HZ, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        embedding = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        facts["encoder_s"] += time.perf_counter() - started
        facts["audio_s"] += sum(len(waveform) for waveform in waveforms) / RATE_HZ
        facts["num_frames"] += int(mask.sum())
        facts["num_padding_frames"] += int(mask.numel() - mask.sum())
        return {"embedding": embedding.numpy().astype(np.float32)}

    embedded = dataset.map(embed, batched=True, batch_size=BATCH_SIZE, remove_columns=["audio"])
    embedded.to_parquet(options.out)
    facts["done"] = time.time()
    options.facts.write_text(json.dumps(facts))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--facts", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
