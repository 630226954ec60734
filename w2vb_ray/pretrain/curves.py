"""What TensorBoard shows of a run: event files under `tensorboard/`, one per checkpoint."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from w2vb_ray import storage

FOLDER = "tensorboard"


def write_curves(lines: Sequence[Mapping[str, float]], uri: str, options: Mapping[str, Any]) -> None:
    """Write lines of the log that no event file has yet.

    Args:
        lines: figures by name, `update` among them.
        uri: of the run.
        options: fsspec options of its store.

    Raises:
        OSError: the store cannot be written to.
    """
    if not lines:
        return
    fs = storage.filesystem(uri, options)
    target = storage.fs_path(storage.join(uri, FOLDER), fs)
    with tempfile.TemporaryDirectory(prefix="w2vb-curves-") as name:
        writer: Any = SummaryWriter(name)
        for line in lines:
            for key in line.keys() - {"update"}:
                writer.add_scalar(key, line[key], int(line["update"]))
        writer.close()
        fs.makedirs(target, exist_ok=True)
        for file in Path(name).iterdir():
            fs.put_file(str(file), storage.join(target, f"{file.name}.{int(lines[-1]['update']):09d}"))
