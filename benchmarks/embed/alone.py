"""Row `encoder alone`: the job's encoder on the job's units, ready in memory. No Ray, no tables.

`python -m benchmarks.embed.alone CONF.yaml --threads N --facts FILE`
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.embed.encode import WARM_UP_SAMPLES, waveform_of
from w2vb_ray.embed.live import Live
from w2vb_ray.embed.plan import make_plan
from w2vb_ray.embed.read import read_unit
from w2vb_ray.embed.tables import REJECTS, UTTERANCES, Table
from w2vb_ray.encoder import load_encoder
from w2vb_ray.source import build_inventory


def main() -> None:
    """Encode every unit of a config; leave times and counts in `--facts`."""
    options = _parse()
    config = load_config(EmbedConfig, options.config)
    started = time.time()
    units = read_units(config)
    read_s = time.time() - started
    encoder = load_encoder(config.encoder, config.pooling, config.batching, config.audio, num_threads=options.threads)
    encoder.encode([np.zeros(WARM_UP_SAMPLES, np.int16)])  # as the job's actors do
    ready = time.time()
    for waveforms in units:
        encoder.encode(waveforms)
    done = time.time()
    facts = {
        "read_s": read_s,
        "ready": ready,
        "done": done,
        "encoder_s": done - ready,
        "audio_s": sum(len(waveform) for waveforms in units for waveform in waveforms) / 16_000,
        "num_frames": encoder.stats.num_frames,
        "num_padding_frames": encoder.stats.num_padding_frames,
    }
    options.facts.write_text(json.dumps(facts))


def read_units(config: EmbedConfig) -> list[Sequence[np.ndarray]]:
    """Waveforms of the units that the job plans, in its order."""
    inventory = build_inventory(config.source)
    tables = {name: Table(name, config.sink.uri, config.sink.storage) for name in (UTTERANCES, REJECTS)}
    plan = make_plan(inventory.batches(), Live.read(tables), config.plan)
    read = [read_unit(rows, config.source, config.audio) for rows in plan.units]
    return [[waveform_of(rows, i) for i in range(rows.num_rows) if rows["waveform"][i].is_valid] for rows in read]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--facts", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
