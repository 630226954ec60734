"""Running the pretrain job as a user does, with a model of a few thousand parameters, and reading what it left."""

import json
import subprocess
import sys
from pathlib import Path

from tests.integration import jobs

SMALL = [
    "pretrain.num_updates=40", "pretrain.checkpoint_updates=5", "pretrain.log_updates=1", "optimiser.warmup_updates=2",
    "model.hidden_size=32", "model.num_layers=2", "model.num_heads=2", "model.intermediate_size=48",
    "model.contrastive_layers=1", "batches.audio_s=25", "batches.max_frames=450",
]  # fmt: skip


def arguments(uri: Path | str, *overrides: str) -> list[str]:
    return ["conf/pretrain/tiny.yaml", f"pretrain.uri={uri}", *SMALL, *overrides]


def command(uri: Path | str, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "jobs.pretrain", *arguments(uri, *overrides)]


def pretrain(uri: Path | str, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(uri, *overrides), cwd=jobs.ROOT, capture_output=True, text=True, check=False, timeout=280
    )


def checkpoints(uri: Path) -> set[str]:
    """Those that are whole."""
    return {path.parent.name for path in uri.glob("checkpoints/*/config.json")}


def log(uri: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (uri / "log.jsonl").read_text(encoding="utf-8").splitlines()]
